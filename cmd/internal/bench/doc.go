// Package bench is `sluice bench`: the flags of package sluice/bench's scenarios.
package bench
