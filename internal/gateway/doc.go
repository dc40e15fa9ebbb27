// Package gateway is for job servers that speak HTTP only. It serves the RAP
// API of the OpenSAFELY job runner (create, cancel, status, backend status) and
// can poll a job server as the runners before it did. It translates: what comes
// in becomes messages on sluice.request and sluice.cancel, what goes out is read
// from outcomes. It plans nothing, keeps nothing, and is given nothing that a
// job server is not: it reads outcomes, requests, and what operators have set for
// a backend, so that nothing a study's code chose can be in its answers (I7).
//
// It holds no state that matters. What it remembers of a request it has read
// from the server's streams, and reads on from there at each question.
package gateway
