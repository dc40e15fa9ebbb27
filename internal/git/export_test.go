package git

// OnLoopback returns rules that take servers of this machine, without TLS, for
// github.com.
func (r Rules) OnLoopback() Rules {
	r.loopback = true
	return r
}
