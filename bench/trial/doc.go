// Package trial is the frame of programs that start gateways of their own and judge them:
// bench/chaos, whose rows inject faults and check every message, and bench/cluster, whose figures
// are numbers with bounds. Such a program is a [Program] with a table of [Trial]s. The package has
// the command line, the children with their logs, the lines of progress, and the report. It is a
// package of its own because the two programs share this and nothing else: their clients differ.
//
// # A trial
//
// A trial is a function of a [*Run]. It starts gateways ([Run.Gateway]) and NATS servers
// ([Run.NATS]), which are ended with the trial, and notes what it has seen: a [Run.Check] holds or
// not, a [Run.Figure] is a number with a bound, a [Run.Count] explains others. [Must] and [NoError]
// end it at a step that fails, on its own goroutine; [Skipped] is the error of a trial that this
// machine cannot run. It passes if something was judged and everything held. After a failure, the
// logs, the result, and the gateways' goroutines and metrics are kept.
//
// Each trial has a short form, of seconds and hundreds of clients, which runs in the tests of its
// program beside other tests (package trialtest): speed is not judged there. [Param] has both
// values of a parameter, and --set replaces them.
//
// # Goroutines
//
// A trial runs on its caller's goroutine. Run.Say, Run.Pause and Run.Await can be called on any;
// everything else of a Run belongs to the trial's own.
//
// The package does not know how a gateway works inside, and no client of it.
package trial
