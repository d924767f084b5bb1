/* net.h - the network: a decoder-only transformer, forward and backward, in two precisions.
 *
 * net32_* runs on BLAS in float32 and does the work. net64_* is the same source with spelled-out
 * loops in float64: the reference that tests hold the other to. No state outlives a call but what
 * struct net32_state holds; one owner at a time, as many states as threads. */
#ifndef CLIENT_LM_NET_H
#define CLIENT_LM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/lm/pack.h"
#include "client/lm/shape.h"
#include "storage/base/err.h"

#define REAL float
#define NET(name) net32_##name
#include "client/lm/net_decl.inc"
#undef REAL
#undef NET

#define REAL double
#define NET(name) net64_##name
#include "client/lm/net_decl.inc"
#undef REAL
#undef NET

#endif
