/* Runs a network on QEMU's board mps2-an386 (Cortex-M4): images from a file of the host, logits to
 * its terminal, both by semihosting. */
#include <stdint.h>
#include <stdio.h>
#include NETWORK_HEADER

extern uint32_t stack_end;
extern void _start(void);
void reset(void);

static void fault(void) {
    for (;;) {
    }
}

void reset(void) {
    *(volatile uint32_t *)0xE000ED88 |= 0xF << 20; /* the floating-point unit is off at first */
    __asm__ volatile("dsb\n\tisb");
    _start(); /* newlib's, which calls main */
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    &stack_end, reset, fault, fault, fault, fault, fault,
};

int main(void) {
    static uint8_t image[NETWORK(PIXELS)];
    float logits[NETWORK(CLASSES)];
    FILE *images = fopen("images", "rb");
    while (images && fread(image, sizeof image, 1, images) == 1) {
        NETWORK_LOGITS(image, logits);
        for (int i = 0; i < NETWORK(CLASSES); i++)
            printf("%.9g%c", logits[i], i + 1 < NETWORK(CLASSES) ? ' ' : '\n');
    }
    return 0;
}
