#include "textflag.h"

// func cpuidFeatures() (ecx uint32)
TEXT ·cpuidFeatures(SB), NOSPLIT, $0-4
	MOVL $1, AX
	XORL CX, CX
	CPUID
	MOVL CX, ecx+0(FP)
	RET

// func prefetchLines(p uintptr, lines int)
TEXT ·prefetchLines(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), SI
	MOVQ lines+8(FP), CX
next:
	PREFETCHT1 (SI)
	ADDQ $64, SI
	DECQ CX
	JNZ next
	RET
