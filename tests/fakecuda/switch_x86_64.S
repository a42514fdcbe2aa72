/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch_x86_64.S - from one stack to another.
 *
 * void simt_switch(void **save, void *load): keeps what a call must keep on
 * the stack, leaves the stack pointer in *save and goes on where the stack
 * @load was left.
 */
	.text
	.globl	simt_switch
	.hidden	simt_switch
	.type	simt_switch, @function
simt_switch:
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, (%rdi)
	movq	%rsi, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	ret
	.size	simt_switch, . - simt_switch
	.section .note.GNU-stack, "", @progbits
