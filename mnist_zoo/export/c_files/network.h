/* The network @network@ in C99, written by mnist_zoo. */
#ifndef @NAME@_H
#define @NAME@_H

#include <stdint.h>

#define @NAME@_CHANNELS @channels@
#define @NAME@_HEIGHT @height@
#define @NAME@_WIDTH @width@
#define @NAME@_PIXELS (@NAME@_CHANNELS * @NAME@_HEIGHT * @NAME@_WIDTH)
#define @NAME@_CLASSES @classes@

#ifdef __cplusplus
extern "C" {
#endif

/* Names of the classes, in UTF-8. */
extern const char *const @name@_names[@NAME@_CLASSES];

/*
 * Computes the @output@ of one image, @NAME@_CLASSES numbers.
 * The image: @images@.
 * Memory is static: only one thread at a time may call it.
 */
void @name@_logits(const @type@ *image, float *@output@);

#ifdef __cplusplus
}
#endif
#endif
