package main

import (
	"io"
	"sync"
)

// lines lets several goroutines write lines to what may be one pipe under two names,
// such as the stdout and stderr of a function: the system keeps only short writes whole.
type lines struct {
	mu  *sync.Mutex
	out io.Writer
}

func (l lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(b)
}
