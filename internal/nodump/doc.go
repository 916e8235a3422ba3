// Package nodump keeps the memory of this process, in which card numbers and keys are, out of core dumps and debuggers. It must never look
// at what is in that memory.
package nodump
