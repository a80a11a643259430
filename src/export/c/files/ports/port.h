/* port.h - what bitnet_main.c needs from a machine. */
#ifndef PORT_H
#define PORT_H

#include <stdint.h>

void port_write(const char *text);         /* zero-terminated */
void port_exit(int code);                  /* does not return */
const char *port_args(void);               /* command line without the program's name; "" if none */
const void *port_model(uint32_t *bytes);   /* the packed model */
void *port_arena(uint32_t *bytes);         /* aligned to 16 */
int32_t *port_results(uint32_t elements);  /* for one set of logits or one embedding; NULL: not that many */
uint32_t *port_stack_low(void);            /* the stack's lowest words; NULL: not known */
uint32_t port_simd(void);                  /* for bitnet_set_simd */
uint32_t *port_ids(uint32_t *elements);    /* for token ids of a prompt */
uint32_t *port_work(uint32_t words);       /* scratch of the tokenizer; NULL: not that many */

/* only of a port that is built with BITNET_PORT_ADAPTER */
const void *port_adapter(uint32_t *bytes);   /* an adapter to run with; NULL: none */
void *port_adapter_scratch(uint32_t bytes);  /* for it, aligned to 4; NULL: not that many */

/* only for bitnet_update.c */
const void *port_patch(uint32_t *bytes);     /* a patch; NULL: none */
const void *port_patch_key(uint32_t *bytes); /* the text of a public key file; 0 bytes: none */

#endif
