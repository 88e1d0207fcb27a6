pub mod error; pub mod tensor; pub mod signature; pub mod origin; pub mod storage; pub mod plan; pub mod read; pub mod config; pub mod decode; pub mod telemetry;
