//! Contract suites, fakes, faults and real servers for tests.
