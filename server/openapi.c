/* openapi.c - see openapi.h. Nothing here knows a route: what the table does not say is not
 * said. */
#include "server/openapi.h"

#include <stdbool.h>
#include <string.h>

#include "server/http.h"

static void lower(struct buf *out, const char *text)
{
    for (; *text; text++) {
        char c = *text >= 'A' && *text <= 'Z' ? (char)(*text - 'A' + 'a') : *text;
        buf_add(out, &c, 1);
    }
}

static void parameter(struct buf *out, const char *name, size_t len, bool in_path, bool *first)
{
    if (!*first)
        buf_add_text(out, ",");
    *first = false;
    buf_add_text(out, "{\"name\":\"");
    buf_add(out, name, len);
    buf_format(out, "\",\"in\":\"%s\",\"required\":%s,\"schema\":{\"type\":\"string\"}}",
               in_path ? "path" : "query", in_path ? "true" : "false");
}

static void parameters(struct buf *out, const struct route *r)
{
    bool first = true;
    const char *p = r->path;

    buf_add_text(out, ",\"parameters\":[");
    while ((p = strchr(p, '{'))) {
        size_t len = strcspn(++p, "}");
        parameter(out, p, len, true, &first);
    }
    p = r->params ? r->params : "";
    while (*p) {
        size_t len = strcspn(p, " ");
        if (len)
            parameter(out, p, len, false, &first);
        p += len + (p[len] != '\0');
    }
    buf_add_text(out, "]");
}

static void body(struct buf *out, const struct route *r)
{
    if (r->body == BODY_NONE)
        return;
    buf_format(out, ",\"requestBody\":{\"required\":%s,\"content\":{",
               r->body_optional ? "false" : "true");
    if (r->body == BODY_TENSOR)
        buf_add_text(out, "\"application/vnd.safetensors\":{\"schema\":{\"type\":\"string\","
                          "\"format\":\"binary\"}},\"application/octet-stream\":{\"schema\":"
                          "{\"type\":\"string\",\"format\":\"binary\"}},");
    buf_add_text(out, "\"application/json\":{\"schema\":{\"type\":\"object\"}}}}");
}

static const char *scope_name(unsigned scope)
{
    scope &= SCOPE_RIGHTS;
    return scope == SCOPE_READ ? "read" : scope == SCOPE_WRITE ? "write" : "admin";
}

/* PUT /v1/corpora/{c}/batches/{b} -> put_v1_corpora_c_batches_b: what generated clients call it. */
static void operation_id(struct buf *out, const struct route *r)
{
    bool gap = true;

    lower(out, r->method);
    for (const char *p = r->path; *p; p++) {
        bool word = (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9');
        if (word && gap)
            buf_add_text(out, "_");
        if (word)
            buf_add(out, p, 1);
        gap = !word;
    }
}

static void operation(struct buf *out, const struct route *r)
{
    buf_add_text(out, "\"");
    lower(out, r->method);
    buf_add_text(out, "\":{\"operationId\":\"");
    operation_id(out, r);
    buf_add_text(out, "\",\"summary\":");
    http_json_string(out, r->summary);
    parameters(out, r);
    body(out, r);
    if (r->scope == SCOPE_OPEN)
        buf_add_text(out, ",\"security\":[]");
    else
        buf_format(out, ",\"security\":[{\"key\":[]}],\"x-scope\":\"%s\"", scope_name(r->scope));
    buf_add_text(out, ",\"responses\":{\"2XX\":{\"description\":\"Done\"},\"default\":"
                      "{\"$ref\":\"#/components/responses/problem\"}}}");
}

/* Is this row the first one of its path? The rows of one path make one entry. */
static bool first_of_path(const struct route *routes, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(routes[i].path, routes[at].path) == 0)
            return false;
    return true;
}

static void path(struct buf *out, const struct route *routes, size_t count, size_t at)
{
    bool first = true;

    http_json_string(out, routes[at].path);
    buf_add_text(out, ":{");
    for (size_t i = at; i < count; i++) {
        if (strcmp(routes[i].path, routes[at].path) != 0)
            continue;
        if (!first)
            buf_add_text(out, ",");
        first = false;
        operation(out, &routes[i]);
    }
    buf_add_text(out, "}");
}

static const char components[] =
    "},\"components\":{\"securitySchemes\":{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\"}},"
    "\"schemas\":{\"problem\":{\"type\":\"object\",\"required\":[\"type\",\"title\",\"status\","
    "\"code\",\"detail\",\"request_id\"],\"properties\":{\"type\":{\"type\":\"string\"},"
    "\"title\":{\"type\":\"string\"},\"status\":{\"type\":\"integer\"},"
    "\"code\":{\"type\":\"string\",\"enum\":[";

static const char components_end[] =
    "]},\"detail\":{\"type\":\"string\"},\"request_id\":{\"type\":\"string\"},"
    "\"field\":{\"type\":\"string\"},\"index\":{\"type\":\"integer\"},"
    "\"limit\":{\"type\":\"integer\"}}}},\"responses\":{\"problem\":{\"description\":"
    "\"The request was refused or failed (RFC 9457)\",\"content\":{\"application/problem+json\":"
    "{\"schema\":{\"$ref\":\"#/components/schemas/problem\"}}}}}}}\n";

void openapi_write(struct buf *out, const struct route *routes, size_t count)
{
    bool first = true;

    buf_add_text(out, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"ascribe\",\"version\":"
                      "\"" ASCRIBE_VERSION "\",\"license\":{\"name\":\"Apache-2.0\","
                      "\"identifier\":\"Apache-2.0\"}},\"paths\":{");
    for (size_t i = 0; i < count; i++) {
        if (!routes[i].summary || !first_of_path(routes, i))
            continue;
        if (!first)
            buf_add_text(out, ",");
        first = false;
        path(out, routes, count, i);
    }
    buf_add_text(out, components);
    for (int c = ERR_OK + 1; c < ERR_COUNT; c++)
        buf_format(out, "%s\"%s\"", c > ERR_OK + 1 ? "," : "", err_word((enum err_code)c));
    buf_add_text(out, components_end);
}
