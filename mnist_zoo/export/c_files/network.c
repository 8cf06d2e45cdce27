/* To try it: cc -O2 -D@NAME@_MAIN @file@.c -lm -o @name@ && ./@name@ < images */
#include "@file@.h"

/* graph */

const char *const @name@_names[@NAME@_CLASSES] = {@names@};

void @name@_logits(const @type@ *image, float *@output@) {
    graph((const @type@ (*)[@channels@][@height@][@width@])image, (float (*)[@classes@])@output@);
}

#ifdef @NAME@_MAIN
#include <stdio.h>

/* Reads images, @NAME@_PIXELS numbers of type @type@ each, and prints a line of @output@ for each. */
int main(void) {
    static @type@ image[@NAME@_PIXELS];
    float @output@[@NAME@_CLASSES];
    while (fread(image, sizeof image, 1, stdin) == 1) {
        @name@_logits(image, @output@);
        for (int i = 0; i < @NAME@_CLASSES; i++)
            printf("%.9g%c", @output@[i], i + 1 < @NAME@_CLASSES ? ' ' : '\n');
    }
    return 0;
}
#endif
