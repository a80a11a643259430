/* bitnet_poison.h - included last by every runtime source: what it names
 * cannot be used there. */
#if defined(__GNUC__)
#pragma GCC poison float double malloc calloc realloc free alloca memcpy memset memmove printf setjmp longjmp
#endif
