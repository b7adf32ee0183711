/**
 * Ends a test that hangs. The limit is far above what a sound test needs on a slow machine; speed is measured in a
 * bench. (Jest 30 accepts `testTimeout` in a project, but ignores it.)
 */
jest.setTimeout(480_000);
