/* net64.c - the network in float64 with spelled-out loops and libm (net.h): the reference. */
#include "client/lm/net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

#define REAL      double
#define NET(name) net64_##name
#define PLAIN     true
#define SQRT      sqrt
#define EXP       exp
#define HOT
#define GEMM(plain, ...) ((void)(plain), gemm_plain(__VA_ARGS__))

#include "client/lm/net.inc"
