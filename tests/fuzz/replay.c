/* replay.c - runs a target over kept inputs: every file of the directories (or files) named, in the
 * order of their names. Prints how many; a target that fails ends the process, and the name of the
 * input stands on stderr. An empty or missing directory is a failure: a test that ran nothing. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

enum { INPUT_MAX = 16 << 20 };

static void run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *bytes = malloc(INPUT_MAX), *exact;
    size_t len;

    fuzz_require(f && bytes);
    len = fread(bytes, 1, INPUT_MAX, f);
    fuzz_require(!ferror(f) && feof(f));
    fclose(f);
    exact = fuzz_exact(bytes, len);
    free(bytes);
    fprintf(stderr, "input %s\n", path);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
}

static int is_input(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

static unsigned run_folder(const char *path)
{
    struct dirent **list;
    int count = scandir(path, &list, is_input, alphasort);
    char name[4096];

    fuzz_require(count > 0);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s/%s", path, list[i]->d_name);
        run_file(name);
        free(list[i]);
    }
    free(list);
    return (unsigned)count;
}

int main(int argc, char **argv)
{
    unsigned ran = 0;

    for (int i = 1; i < argc; i++) {
        struct stat st;

        fuzz_require(stat(argv[i], &st) == 0);
        if (S_ISDIR(st.st_mode)) {
            ran += run_folder(argv[i]);
        } else {
            run_file(argv[i]);
            ran++;
        }
    }
    printf("%u inputs\n", ran);
    return ran > 0 ? 0 : 1;
}
