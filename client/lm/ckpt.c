/* ckpt.c - see ckpt.h. */
#include "client/lm/ckpt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "client/lm/adafactor.h"
#include "client/lm/tensorfile.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

enum {
    HEADER_MAX = 1 << 20, /* the largest shape makes some 100 KiB */
    TENSORS = 3 * SHAPE_TENSORS_MAX + 1
};

/* What the header says of the model; the checksum is over the others and the data. A file of Adam's
 * has no OPTIMIZER: it is what version 1 was, so that the same model keeps its fingerprint. */
enum fact {
    FORMAT,
    VERSION,
    VOCAB, /* from here to SEED: numbers */
    CONTEXT,
    LAYERS,
    WIDTH,
    HEADS,
    STEPS,
    SEED,
    LOSS,
    CHECKSUM,
    OPTIMIZER,
    FACTS
};

static const char *const fact_name[FACTS] = {"format", "version", "vocab",    "context",
                                             "layers", "width",   "heads",    "steps",
                                             "seed",   "loss",    "checksum", "optimizer"};
static const char format_name[] = "ascribe-lm";
static const char *const version_text[] = {[MODEL_ADAM] = "1", [MODEL_ADAFACTOR] = "2"};

struct layout {
    struct tensorfile_fact fact[FACTS];
    size_t facts;
    struct tensorfile_tensor tensor[TENSORS];
    char second_name[2 * SHAPE_TENSORS_MAX][48];
    struct shape_tensor shape[SHAPE_TENSORS_MAX];
    size_t count, seconds;
};

static void set_facts(struct layout *l, const struct model *m)
{
    const uint32_t sizes[] = {m->shape.vocab, m->shape.context, m->shape.layers, m->shape.width,
                              m->shape.heads};

    l->facts = m->optimizer == MODEL_ADAM ? OPTIMIZER : FACTS;
    for (size_t i = 0; i < l->facts; i++)
        l->fact[i].name = fact_name[i];
    memcpy(l->fact[FORMAT].value, format_name, sizeof format_name);
    snprintf(l->fact[VERSION].value, sizeof l->fact[0].value, "%s", version_text[m->optimizer]);
    snprintf(l->fact[OPTIMIZER].value, sizeof l->fact[0].value, "%s",
             model_optimizer_name(m->optimizer));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        snprintf(l->fact[VOCAB + i].value, sizeof l->fact[0].value, "%" PRIu32, sizes[i]);
    snprintf(l->fact[STEPS].value, sizeof l->fact[0].value, "%" PRIu64, m->steps);
    snprintf(l->fact[SEED].value, sizeof l->fact[0].value, "%" PRIu64, m->seed);
    snprintf(l->fact[LOSS].value, sizeof l->fact[0].value, "%.17g", m->loss);
    memcpy(l->fact[CHECKSUM].value, m->fingerprint, sizeof m->fingerprint);
}

/* A vector when rows is 0. */
static void add_tensor(struct layout *l, const char *name, const char *dtype, size_t rows,
                       size_t cols, size_t size, const void *data)
{
    l->tensor[l->count++] = (struct tensorfile_tensor){
        .name = name,
        .dtype = dtype,
        .shape = {rows ? rows : cols, cols},
        .dims = rows ? 2 : 1,
        .bytes = (rows ? rows : 1) * cols * size,
        .data = data,
    };
}

/* One tensor of the second moment; `at` is its place in model.second. */
static void add_second(struct layout *l, const struct model *m, const char *kind, const char *name,
                       size_t rows, size_t cols, size_t at)
{
    char *full = l->second_name[l->seconds++];

    snprintf(full, sizeof l->second_name[0], "%s.%s.%s", model_optimizer_name(m->optimizer), kind,
             name);
    add_tensor(l, full, "F32", rows, cols, sizeof(float), m->second ? m->second + at : NULL);
}

static void add_factors(struct layout *l, const struct model *m, size_t count)
{
    size_t place[SHAPE_TENSORS_MAX];

    adafactor_places(l->shape, count, place);
    for (size_t i = 0; i < count; i++) {
        const struct shape_tensor *t = &l->shape[i];
        if (t->rows > 1) {
            add_second(l, m, "row", t->name, 0, t->rows, place[i]);
            add_second(l, m, "col", t->name, 0, t->cols, place[i] + t->rows);
        } else {
            add_second(l, m, "second", t->name, 0, t->cols, place[i]);
        }
    }
}

/* The order in the file: merges, parameters, second moments. Both lie as in the model's arrays. */
static void lay_out(struct layout *l, const struct model *m, const struct tok_pair *merges)
{
    size_t count = shape_tensors(&m->shape, l->shape);

    l->count = l->seconds = 0;
    set_facts(l, m);
    add_tensor(l, "tokenizer.merges", "U16", m->shape.vocab - TOK_FIRST_MERGE, 2, sizeof(uint16_t),
               merges);
    for (size_t i = 0; i < count; i++)
        add_tensor(l, l->shape[i].name, "F32", l->shape[i].rows, l->shape[i].cols, sizeof(float),
                   m->params ? m->params + l->shape[i].offset : NULL);
    if (m->optimizer == MODEL_ADAFACTOR)
        add_factors(l, m, count);
    for (size_t i = 0; i < count && m->optimizer == MODEL_ADAM; i++)
        add_second(l, m, "second", l->shape[i].name, l->shape[i].rows, l->shape[i].cols,
                   l->shape[i].offset);
}

/* XXH3-128 of the other facts and of all tensors, as hex. */
static void checksum(const struct layout *l, char out[MODEL_FINGERPRINT_LEN + 1])
{
    XXH3_state_t *state = XXH3_createState();
    XXH128_canonical_t sum;

    require(state);
    XXH3_128bits_reset(state);
    for (size_t i = 0; i < l->facts; i++)
        if (i != CHECKSUM)
            XXH3_128bits_update(state, l->fact[i].value, strlen(l->fact[i].value) + 1);
    for (size_t i = 0; i < l->count; i++)
        XXH3_128bits_update(state, l->tensor[i].data, l->tensor[i].bytes);
    XXH128_canonicalFromHash(&sum, XXH3_128bits_digest(state));
    XXH3_freeState(state);
    bytes_hex(&sum, sizeof sum, out);
}

int ckpt_save(struct model *m, const char *path, struct err *e)
{
    struct layout *l = mem_new(1, sizeof *l);
    int rc;

    lay_out(l, m, m->tok.merge);
    checksum(l, m->fingerprint);
    memcpy(l->fact[CHECKSUM].value, m->fingerprint, sizeof m->fingerprint);
    rc = tensorfile_write(path, l->fact, l->facts, l->tensor, l->count, e);
    free(l);
    return rc;
}

static int read_exactly(int fd, void *out, size_t len, struct err *e)
{
    char *p = out;

    while (len) {
        ssize_t got = read(fd, p, len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(e, errno, "read");
        if (got == 0)
            return err_set(e, ERR_CORRUPT, "cut short: %zu bytes are missing", len);
        p += got;
        len -= (size_t)got;
    }
    return 0;
}

static int read_header(int fd, size_t file_len, struct buf *header, struct err *e)
{
    unsigned char length[8];
    uint64_t len;
    int rc = read_exactly(fd, length, sizeof length, e);

    if (rc)
        return rc;
    len = bytes_get_le64(length);
    if (len < 2 || len > HEADER_MAX || len > file_len - sizeof length)
        return err_set(e, ERR_CORRUPT, "not a checkpoint: its header claims %" PRIu64 " bytes",
                       len);
    buf_add(header, length, sizeof length);
    if (!buf_reserve(header, len))
        return err_set(e, ERR_BUSY, "no memory for a header of %" PRIu64 " bytes", len);
    rc = read_exactly(fd, header->data + header->len, len, e);
    header->len += len;
    return rc;
}

/* A whole decimal number, or failure. */
static int number(const char *text, uint64_t *out)
{
    char *end;

    if (*text < '0' || *text > '9')
        return -1;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno || *end ? -1 : 0;
}

/* The optimiser is what the version says; version 2 says it by name as well. */
static int read_optimizer(const char *version, const char *name, struct model *m, struct err *e)
{
    if (strcmp(version, version_text[MODEL_ADAM]) == 0) {
        m->optimizer = MODEL_ADAM;
        return 0;
    }
    if (strcmp(version, version_text[MODEL_ADAFACTOR]) != 0)
        return err_set(e, ERR_CORRUPT, "checkpoint version %.20s; this program reads versions 1 "
                       "and 2", version);
    m->optimizer = MODEL_ADAFACTOR;
    if (!name || strcmp(name, model_optimizer_name(MODEL_ADAFACTOR)) != 0)
        return err_set(e, ERR_CORRUPT, "checkpoint version 2 with optimizer \"%.40s\"",
                       name ? name : "");
    return 0;
}

static int read_facts(json_t *root, struct model *m, struct err *e)
{
    json_t *all = json_object_get(root, "__metadata__");
    const char *value[FACTS];
    uint64_t n[SEED + 1] = {0};

    for (size_t i = 0; i < FACTS; i++) {
        value[i] = json_string_value(json_object_get(all, fact_name[i]));
        if (!value[i] && i != OPTIMIZER)
            return err_set(e, ERR_CORRUPT, "not a checkpoint: no \"%s\" in its header",
                           fact_name[i]);
    }
    if (strcmp(value[FORMAT], format_name) != 0)
        return err_set(e, ERR_CORRUPT, "not a checkpoint: format \"%.40s\"", value[FORMAT]);
    if (read_optimizer(value[VERSION], value[OPTIMIZER], m, e))
        return ERR_CORRUPT;
    for (size_t i = VOCAB; i <= SEED; i++)
        if (number(value[i], &n[i]) || (i < STEPS && n[i] > UINT32_MAX))
            return err_set(e, ERR_CORRUPT, "\"%s\" is \"%.40s\"", fact_name[i], value[i]);
    m->shape = (struct shape){(uint32_t)n[VOCAB], (uint32_t)n[CONTEXT], (uint32_t)n[LAYERS],
                              (uint32_t)n[WIDTH], (uint32_t)n[HEADS]};
    m->steps = n[STEPS];
    m->seed = n[SEED];
    m->loss = strtod(value[LOSS], NULL);
    if (strlen(value[CHECKSUM]) != MODEL_FINGERPRINT_LEN)
        return err_set(e, ERR_CORRUPT, "its checksum has %zu digits", strlen(value[CHECKSUM]));
    memcpy(m->fingerprint, value[CHECKSUM], MODEL_FINGERPRINT_LEN);
    return 0;
}

static int parse_header(const struct buf *header, struct model *m, struct err *e)
{
    json_error_t why;
    json_t *root = json_loadb((const char *)header->data + 8, header->len - 8,
                              JSON_REJECT_DUPLICATES, &why);
    int rc;

    if (!root)
        return err_set(e, ERR_CORRUPT, "not a checkpoint: its header is no JSON (%s)", why.text);
    rc = read_facts(root, m, e);
    json_decref(root);
    if (!rc && shape_check(&m->shape, e)) {
        e->code = ERR_CORRUPT;
        rc = ERR_CORRUPT;
    }
    return rc;
}

/* What we would have written for these sizes: every byte of the header, and the file's length. */
static int check_header(struct layout *l, const struct buf *header, size_t file_len,
                        const struct model *m, struct err *e)
{
    struct buf own = {0};
    size_t len = 0;
    bool same;

    lay_out(l, m, NULL);
    tensorfile_header(&own, l->fact, l->facts, l->tensor, l->count);
    if (own.failed)
        return err_set(e, ERR_BUSY, "no memory for a header");
    same = own.len == header->len && memcmp(own.data, header->data, own.len) == 0;
    len = own.len;
    buf_free(&own);
    if (!same)
        return err_set(e, ERR_CORRUPT, "its header does not fit the sizes it states");
    for (size_t i = 0; i < l->count; i++)
        len += l->tensor[i].bytes;
    if (len != file_len)
        return err_set(e, ERR_CORRUPT, "%zu bytes long, its header implies %zu", file_len, len);
    return 0;
}

static int read_data(int fd, struct layout *l, struct model *m, struct err *e)
{
    const size_t params = shape_params(&m->shape);
    const size_t second = model_second_count(&m->shape, m->optimizer);
    struct tok_pair *merges = mem_big(m->shape.vocab, sizeof *merges);
    char sum[MODEL_FINGERPRINT_LEN + 1];
    int rc = 0;

    m->params = mem_big(params, sizeof *m->params);
    m->second = mem_big(second, sizeof *m->second);
    if (!merges || !m->params || !m->second)
        rc = err_set(e, ERR_BUSY, "no memory for %zu parameters", params);
    if (!rc)
        rc = read_exactly(fd, merges, (m->shape.vocab - TOK_FIRST_MERGE) * sizeof *merges, e);
    if (!rc)
        rc = read_exactly(fd, m->params, params * sizeof *m->params, e);
    if (!rc)
        rc = read_exactly(fd, m->second, second * sizeof *m->second, e);
    if (!rc) {
        lay_out(l, m, merges);
        checksum(l, sum);
        if (strcmp(sum, m->fingerprint) != 0)
            rc = err_set(e, ERR_CORRUPT, "damaged: checksum %s, its header says %s", sum,
                         m->fingerprint);
    }
    if (!rc)
        rc = tok_load(&m->tok, merges, m->shape.vocab, e);
    free(merges);
    return rc;
}

static int load_from(int fd, struct model *m, struct err *e)
{
    struct layout *l = mem_new(1, sizeof *l);
    struct buf header = {0};
    struct stat st;
    int rc = 0;

    if (fstat(fd, &st))
        rc = err_errno(e, errno, "stat");
    else if (!S_ISREG(st.st_mode))
        rc = err_set(e, ERR_CORRUPT, "not a regular file");
    else if (st.st_size < 16)
        rc = err_set(e, ERR_CORRUPT, "not a checkpoint: %lld bytes", (long long)st.st_size);
    if (!rc)
        rc = read_header(fd, (size_t)st.st_size, &header, e);
    if (!rc)
        rc = parse_header(&header, m, e);
    if (!rc)
        rc = check_header(l, &header, (size_t)st.st_size, m, e);
    if (!rc)
        rc = read_data(fd, l, m, e);
    buf_free(&header);
    free(l);
    return rc;
}

int ckpt_load(struct model *m, const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

    *m = (struct model){0};
    if (fd < 0)
        return err_errno(e, errno, path);
    rc = load_from(fd, m, e);
    close(fd);
    if (rc) {
        err_wrap(e, "%s: ", path);
        model_free(m);
    }
    return rc;
}
