#![no_main]
libfuzzer_sys::fuzz_target!(init: floe_fuzz::start(), |bytes: &[u8]| floe_fuzz::fuzz(floe_fuzz::images::run, bytes));
