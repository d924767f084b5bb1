/* partial.c - see partial.h. */
#include "server/partial.h"

#include <inttypes.h>

#include "server/api.h"
#include "server/json.h"
#include "server/runtime.h"

/* Each try meets damage at its first touch and goes on from there; a store with more than this many
 * damaged chunks that nobody has touched answers at the second request. */
enum { TRIES_MAX = 32 };

const struct view *partial_view(struct job *j, struct partial *p, struct corpus *c)
{
    p->known = store_damage(j->rt->store);
    p->with_texts = p->texts;
    return corpus_view_sound(c, p->texts);
}

bool partial_again(struct job *j, struct partial *p, int code)
{
    bool is_news = store_damage(j->rt->store) != p->known || (p->texts && !p->with_texts);

    if (code != ERR_CORRUPT || !is_news || p->tries == TRIES_MAX || job_stopped(j))
        return false;
    p->tries++;
    api_seen(j, code);
    err_clear(&j->err);
    j->reply_body.len = 0;
    return true;
}

int partial_refuse(struct corpus *c, bool texts, struct err *e)
{
    const struct view *v = corpus_view_sound(c, texts);
    const struct view_damage *d = v->damage;
    int code = 0;

    if (d)
        code = err_set(e, ERR_DAMAGED,
                       "corpus %s: %" PRIu64 " examples are damaged, \"%.64s\" for one; stop the "
                       "server and run `ascribed repair`",
                       corpus_def(c)->name, d->examples, d->id_count ? d->ids[0].id : "");
    view_release(v);
    return code;
}

void partial_put(struct buf *b, const struct view *v)
{
    const struct view_damage *d = v->damage;

    if (!d)
        return;
    buf_format(b,
               ",\"partial\":true,\"damaged\":{\"examples\":%" PRIu64 ",\"chunks\":%zu,\"ids\":[",
               d->examples, d->chunks);
    for (size_t i = 0; i < d->id_count; i++) {
        if (i)
            buf_add(b, ",", 1);
        json_put_text(b, d->ids[i].id, d->ids[i].len);
    }
    buf_add_text(b, "]}");
}
