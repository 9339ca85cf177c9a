// Package option settles the options of a command from its flags, the environment, a
// configuration file and the defaults, and knows where each value came from.
//
// It does not know what the options are for.
package option
