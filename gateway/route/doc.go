// Package route is what the protocols and the edge have in common: the first request of a
// connection, and how it is refused.
//
// It is a package of its own because neither may import the other: a protocol reads requests and
// refuses them, and knows no listener; the edge knows no protocol.
package route
