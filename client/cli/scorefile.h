/* scorefile.h - the file of scores that the server sends (safetensors), written again in the
 * formats of others. What is written appears whole or not at all. Each gives an exit code and
 * prints what is wrong.
 */
#ifndef CLIENT_CLI_SCOREFILE_H
#define CLIENT_CLI_SCOREFILE_H

#include "client/cli/cli.h"

/* OUT [queries, examples], and the ids beside it, a line each: OUT without .npy, then .ids.txt. */
int scorefile_npy(const struct cli *cli, const char *from, const char *out);
/* A line an example: {"id":"...","scores":[...]}. */
int scorefile_jsonl(const struct cli *cli, const char *from, const char *out);
/* A directory as bergson's score writer makes it: scores.bin, info.json. With `items` the ids are
 * numbers of rows of a dataset of so many, and each score goes to its row, others stay unwritten;
 * with 0 rows go in ingest order, and ids.txt says which they are. */
int scorefile_bergson(const struct cli *cli, const char *from, const char *out, uint64_t items);

#endif
