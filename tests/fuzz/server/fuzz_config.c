/* fuzz_config.c - the settings file of the daemon: taken or refused with a reason. */
#include "tests/fuzz/fuzz.h"

#include "server/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char program[] = "ascribed", flag[] = "--config", store[] = "--store", dir[] = "/nowhere";
    struct fuzz_file f;
    struct config c;
    struct err e = ERR_INIT;
    enum config_result result;

    fuzz_file_open(&f, data, size);
    if (config_load(&c, 5, (char *[]){program, flag, f.path, store, dir, NULL}, &result, &e))
        fuzz_require(e.text[0] != '\0');
    else if (result == CONFIG_RUN)
        fuzz_require(c.store && c.threads > 0 && c.connections > 0);
    config_free(&c);
    fuzz_file_close(&f);
    return 0;
}
