#include "textflag.h"

// func cpuidFeatures() (ecx uint32)
TEXT ·cpuidFeatures(SB), NOSPLIT, $0-4
	MOVL $1, AX
	XORL CX, CX
	CPUID
	MOVL CX, ecx+0(FP)
	RET
