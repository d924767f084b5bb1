/* unroll.h - UNROLL before a loop of a constant, small number of turns: all of them are written
 * out, so that arrays of registers become registers. GCC and clang word it differently, and clang
 * takes a number that is not the number of turns for another wish.
 */
#ifndef INDEX_UNROLL_H
#define INDEX_UNROLL_H

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#endif
