/* Status codes of the device runtime. */
#ifndef BITNET_STATUS_H
#define BITNET_STATUS_H

typedef enum {
    BITNET_OK = 0,
    BITNET_E_NULL = 1,      /* a pointer that is needed is NULL */
    BITNET_E_MAGIC = 2,     /* not the kind of data that was asked for */
    BITNET_E_VERSION = 3,   /* a version this code does not read */
    BITNET_E_CRC = 4,       /* checksum differs */
    BITNET_E_ARENA = 5,     /* arena too small */
    BITNET_E_ALIGN = 6,     /* pointer not aligned as needed */
    BITNET_E_TOKEN = 7,     /* token id without a meaning */
    BITNET_E_CONTEXT = 8,   /* context full */
    BITNET_E_FORMAT = 9,    /* data breaks a rule of its format */
    BITNET_E_CAPACITY = 10, /* output buffer too small */
    BITNET_E_SELFTEST = 11, /* golden vector differs */
    BITNET_E_CONFIG = 12,   /* configuration not possible */
    BITNET_E_STATE = 13,    /* called before it was opened */
    BITNET_E_FEATURE = 14,  /* the model needs a part that was not compiled (bitnet_features.h) */
    BITNET_E_RESULT = 15,   /* the model gives an embedding instead of logits, or the reverse */
    BITNET_E_OTHER = 16,    /* an adapter or a state of another model */
    BITNET_E_STACK = 17     /* the guard below the stack was overwritten */
} bitnet_status;

#endif
