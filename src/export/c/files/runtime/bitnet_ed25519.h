/*
 * bitnet_ed25519.h - checks signatures of Ed25519 (RFC 8032, section 5.1).
 */
#ifndef BITNET_ED25519_H
#define BITNET_ED25519_H

#include <stdint.h>

/*
 * 1: `signature` is one of `key` over the message.  0: it is not.
 *
 * Strict: S must be below the order of the group, key and R must be the canonical encodings of points that are not of
 * small order, and the equation is taken without the cofactor.  So a message has no second signature that follows from the first,
 * and no key signs everything.
 *
 * All of its inputs are public, so its time depends on them; it must never be given a secret.
 */
int bitnet_ed25519_verify(const uint8_t signature[64], const uint8_t key[32], const void *message, uint32_t bytes);

#endif
