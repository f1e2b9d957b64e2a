/* The page that the signal handlers and the assembler share with host_leg.c.
 *
 * It stands at a fixed address because while 32-bit code runs nothing else is
 * known: FS, and with it the C library's thread data, belongs to the test.
 */
#ifndef TESTS_INSN_HOST_LEG_PRIV_H
#define TESTS_INSN_HOST_LEG_PRIV_H

#define HOST_CONTEXT 0x6b5c3000
#define HOST_STACK_PAGE 0x6b5e0000

/* offsets in struct host_context, for the assembler */
#define HC_FX 0
#define HC_GPR 512
#define HC_EFLAGS 544
#define HC_EIP 548
#define HC_SREG 552

#ifndef __ASSEMBLER__
/** host_enter - load everything from the context page and go to 32-bit code;
 *  comes back only through a signal */
_Noreturn void host_enter(void);
#endif

#endif
