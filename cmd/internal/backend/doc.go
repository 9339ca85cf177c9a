// Package backend is `sluice hook`: it asks an application's backend what the gateway would ask it, and says what the
// answers mean to clients. It knows no gateway that runs.
package backend
