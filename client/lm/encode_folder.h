/* encode_folder.h - batches as files: FOLDER/corpus.json, the body for PUT /v1/corpora/{c}, and
 * FOLDER/<name>.safetensors, each the body of one batch. Files appear whole, under their names, or
 * not at all; whole ones are kept by a later run. A folder that holds encodings of anything else
 * is refused (CONFLICT). */
#ifndef CLIENT_LM_ENCODE_FOLDER_H
#define CLIENT_LM_ENCODE_FOLDER_H

#include "client/lm/encode.h"

/* `folder` is made when it is not there, and must outlive the sink. */
struct encode_sink encode_folder(char *folder);

#endif
