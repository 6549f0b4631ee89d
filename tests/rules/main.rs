//! The rules of `src/README.md`, each with its plain example. The simulator (`tests/simulation.rs`) tries them in any order and at any time.

mod connections;
mod harness;
mod keys;
mod maps;
mod publishing;
mod records;
mod recovery;
mod routes;
mod slow_clients;
mod subscribing;
mod support;
mod tokens;
