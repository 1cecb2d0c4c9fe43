package metal

import (
	"fmt"
	"strconv"
	"strings"
)

// ErrorDomain is the NSError domain of command buffer errors.
const ErrorDomain = "MTLCommandBufferErrorDomain"

// IOGPU callback statuses that the policy tells apart. They are Apple's private
// numbers, known only from the hexadecimal number in error messages.
const (
	IOGPUIgnored       = 0x04 // submissions are ignored after earlier errors
	IOGPUVictim        = 0x05 // another process made the GPU reset
	IOGPUInteractivity = 0x0e // the GPU was needed to drive a display
)

// codeInfo is what is known about a code: its name and the message that macOS
// gives with it. Messages without a number in parentheses were never seen.
type codeInfo struct {
	code    Code
	name    string
	message string
}

var codeTable = []codeInfo{
	{CodeNone, "none", "Internal Error"},
	{CodeInternal, "internal", "Internal Error (00000001:Internal Error)"},
	{CodeTimeout, "timeout", "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)"},
	{CodePageFault, "page-fault", "Caused GPU Address Fault Error (0000000b:kIOGPUCommandBufferCallbackErrorPageFault)"},
	{CodeAccessRevoked, "access-revoked",
		"Ignored (for causing prior/excessive GPU errors) (00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)"},
	{CodeNotPermitted, "not-permitted",
		"Insufficient Permission (to submit GPU work from background) (00000006:kIOGPUCommandBufferCallbackErrorBackgroundExecutionNotPermitted)"},
	{CodeOutOfMemory, "out-of-memory", "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"},
	{CodeInvalidResource, "invalid-resource", "Invalid Resource"},
	{CodeMemoryless, "memoryless", "Memoryless Attachment Exhausted"},
	{CodeDeviceRemoved, "device-removed", "Device Removed"},
	{CodeStackOverflow, "stack-overflow", "Stack Overflow"},
}

// Codes lists the known codes in ascending order, CodeNone included.
func Codes() []Code {
	list := make([]Code, len(codeTable))
	for i, c := range codeTable {
		list[i] = c.code
	}
	return list
}

// String is the code's name in lower case, or "code N".
func (c Code) String() string {
	for _, info := range codeTable {
		if info.code == c {
			return info.name
		}
	}
	return "code " + strconv.Itoa(int(c))
}

// Message is the text that macOS gives with the code; for unknown codes that of
// CodeInternal.
func (c Code) Message() string {
	for _, info := range codeTable {
		if info.code == c {
			return info.message
		}
	}
	return CodeInternal.Message()
}

// ParseIOGPU finds the private callback status in an error message: eight
// hexadecimal digits after an opening parenthesis and before a colon, the last
// such group if there are several. It returns 0 if there is none.
func ParseIOGPU(message string) uint32 {
	const digits = 8
	for end := len(message); ; {
		open := strings.LastIndexByte(message[:end], '(')
		if open < 0 {
			return 0
		}
		if rest := message[open+1:]; len(rest) > digits && rest[digits] == ':' {
			if n, err := strconv.ParseUint(rest[:digits], 16, 32); err == nil {
				return uint32(n)
			}
		}
		end = open
	}
}

// NewCommandError makes the error of a failed command buffer: label names the
// work, message is the driver's text verbatim. The caller adds LastOp, Seq and
// Generation. Fatal is set where the queue is known to be dead for good.
func NewCommandError(label string, code Code, message string) *CommandError {
	iogpu := ParseIOGPU(message)
	return &CommandError{
		Label: label, Domain: ErrorDomain, Code: code, IOGPU: iogpu, Message: message,
		Fatal: code == CodeAccessRevoked || iogpu == IOGPUIgnored,
	}
}

// Detail is a line for logs with everything that the error knows.
func (e *CommandError) Detail() string {
	return fmt.Sprintf("label=%q op=%q seq=%d generation=%d code=%d(%v) iogpu=%08x fatal=%t message=%q",
		e.Label, e.LastOp, e.Seq, e.Generation, int(e.Code), e.Code, e.IOGPU, e.Fatal, e.Message)
}
