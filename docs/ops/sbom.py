#!/usr/bin/python3
"""sbom.py - a software bill of materials of what was built, as SPDX 2.3 JSON, from what this machine knows.

    docs/ops/sbom.py BUILD VERSION > ascribe.spdx.json

The programs' own files with their checksums; every Debian package whose library one of them links (asked
of the dynamic linker and of dpkg, so nothing is listed by hand); packages whose sources are compiled in;
the compiler. With SOURCE_DATE_EPOCH the same build gives the same bytes.
"""
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import uuid

PROGRAMS = ("ascribed", "ascribe", "ascribe-lm", "libascribe.so.1")
# Compiled in rather than linked: package, and what of it.
INSIDE = {"node-llhttp": "llhttp's C sources: the HTTP parser", "node-d3": "d3.min.js, which the page brings along",
          "libfaiss-dev": "FAISS itself, a static library, and its C API, built from the same "
          "version's sources where the distribution does not ship it"}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def spdx_id(name):
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)


def distribution():
    with open("/etc/os-release", encoding="utf-8") as f:
        fields = dict(line.rstrip("\n").split("=", 1) for line in f if "=" in line)
    return fields["ID"].strip('"'), fields.get("VERSION_ID", "").strip('"')


def owners(libraries):
    """{library: package}. dpkg may know a file by its name below /usr or beside it: it is asked for all at once."""
    names = {lib: [n for real in (os.path.realpath(lib), lib)
                   for n in (real, real.removeprefix("/usr"), "/usr" + real)] for lib in libraries}
    asked = sorted({n for all_names in names.values() for n in all_names})
    done = subprocess.run(["dpkg-query", "-S", *asked], capture_output=True, text=True)  # 1: some are not known
    known = {}
    for line in done.stdout.splitlines():
        packages, path = line.rsplit(": ", 1)
        known[path] = packages.split(",")[0]
    out = {}
    for lib, all_names in names.items():
        out[lib] = next((known[n] for n in all_names if n in known), None)
        if not out[lib]:
            raise SystemExit(f"sbom: no package owns {lib}")
    return out


def loaded(path):
    """Every library that the dynamic linker would load."""
    out = run("ldd", path)
    return set(re.findall(r"=> (/\S+)", out) + re.findall(r"^\s*(/\S+) \(", out, re.M))


def package(name, distro, note=None):
    form = "${Package}\t${Version}\t${Architecture}\t${source:Package}\t${Maintainer}\t${Homepage}"
    fields = run("dpkg-query", "-W", "-f=" + form, name).split("\t")
    binary, version, arch, source, maintainer, home = fields
    purl = f"pkg:deb/{distro[0]}/{binary}@{version}?arch={arch}&distro={distro[0]}-{distro[1]}"
    out = {
        "SPDXID": spdx_id("Package-" + binary), "name": binary, "versionInfo": version,
        "supplier": "Organization: " + re.sub(r"\s*<.*", "", maintainer),
        "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
        "sourceInfo": f"Debian source package {source}; licences in /usr/share/doc/{binary}/copyright",
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                          "referenceLocator": purl.replace("+", "%2B")}],
    }
    if home:
        out["homepage"] = home
    if note:
        out["comment"] = note
    return out


def file_entry(build, name):
    with open(os.path.join(build, name), "rb") as f:
        data = f.read()
    return {"SPDXID": spdx_id("File-" + name), "fileName": "./" + name, "fileTypes": ["BINARY"],
            "checksums": [{"algorithm": "SHA1", "checksumValue": hashlib.sha1(data).hexdigest()},
                          {"algorithm": "SHA256", "checksumValue": hashlib.sha256(data).hexdigest()}],
            "licenseConcluded": "Apache-2.0", "licenseInfoInFiles": ["NOASSERTION"], "copyrightText": "NOASSERTION"}


def relation(a, kind, b):
    return {"spdxElementId": a, "relationshipType": kind, "relatedSpdxElement": b}


def document(build, version):
    distro = distribution()
    files = [file_entry(build, name) for name in PROGRAMS]
    code = hashlib.sha1("".join(sorted(f["checksums"][0]["checksumValue"] for f in files)).encode()).hexdigest()
    own = {"SPDXID": "SPDXRef-Package-ascribe", "name": "ascribe", "versionInfo": version,
           "supplier": "NOASSERTION", "downloadLocation": "NOASSERTION", "filesAnalyzed": True,
           "packageVerificationCode": {"packageVerificationCodeValue": code},
           "hasFiles": [f["SPDXID"] for f in files], "licenseInfoFromFiles": ["NOASSERTION"],
           "licenseConcluded": "Apache-2.0", "licenseDeclared": "Apache-2.0", "copyrightText": "NOASSERTION",
           "primaryPackagePurpose": "APPLICATION"}
    loads = {name: loaded(os.path.join(build, name)) for name in PROGRAMS}
    gcc = run("sh", "-c", "command -v gcc").strip()
    owner = owners(set().union(*loads.values()) | {gcc})
    packages, relations = {}, [relation("SPDXRef-DOCUMENT", "DESCRIBES", own["SPDXID"])]
    relations += [relation(own["SPDXID"], "CONTAINS", f["SPDXID"]) for f in files]
    for f, name in zip(files, PROGRAMS):
        for dep in sorted({owner[lib] for lib in loads[name]}):
            packages[dep] = packages.get(dep) or package(dep, distro)
            relations.append(relation(f["SPDXID"], "DYNAMIC_LINK", packages[dep]["SPDXID"]))
    for dep, note in INSIDE.items():
        packages[dep] = package(dep, distro, note)
        relations.append(relation(files[0]["SPDXID"], "STATIC_LINK", packages[dep]["SPDXID"]))
    packages[owner[gcc]] = package(owner[gcc], distro)
    relations.append(relation(packages[owner[gcc]]["SPDXID"], "BUILD_TOOL_OF", own["SPDXID"]))
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or datetime.datetime.now().timestamp())
    body = {"files": files, "packages": [own] + sorted(packages.values(), key=lambda p: p["SPDXID"]),
            "relationships": relations}
    unique = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    return {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
            "name": f"ascribe-{version}",
            "documentNamespace": f"https://spdx.org/spdxdocs/ascribe-{version}-{unique}",
            "creationInfo": {"created": datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)
                             .strftime("%Y-%m-%dT%H:%M:%SZ"), "creators": [f"Tool: ascribe-sbom-{version}"]},
            **body}


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    json.dump(document(sys.argv[1], sys.argv[2]), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
