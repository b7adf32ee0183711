const swcOptions = require('./tools/swc-options.cjs');

const swc = ['@swc/jest', { sourceMaps: 'inline', ...swcOptions }];
const common = {
  rootDir: __dirname,
  moduleFileExtensions: ['ts', 'js', 'mjs', 'cjs', 'json', 'node'],
  testEnvironment: 'node',
  setupFilesAfterEnv: ['<rootDir>/test/support/patience.ts'],
  transform: { '^.+\\.ts$': swc, '^.+\\.m?js$': '<rootDir>/jest.esm-to-cjs.cjs' },
  transformIgnorePatterns: [],
  moduleNameMapper: {
    '^@app/([^/]+)$': '<rootDir>/libs/$1',
    // An import() of ours names the compiled file, as TypeScript wants it.
    '^(\\./(?:\\w+-(?:commands|driver)|migrations|open-telemetry))\\.js$': '$1',
  },
};

/** unit: pure, no I/O. integration: a lib or an app on a real PostgreSQL. system: built processes together. */
module.exports = {
  testSequencer: '<rootDir>/test/support/longest-first.cjs',
  projects: [
    {
      ...common,
      displayName: 'unit',
      testMatch: ['<rootDir>/{apps,libs,local,web}/**/*.spec.ts'],
      testPathIgnorePatterns: ['\\.integration\\.spec\\.ts$', '/node_modules/'],
    },
    {
      ...common,
      displayName: 'integration',
      testMatch: ['<rootDir>/{apps,libs,local}/**/*.integration.spec.ts'],
      globalSetup: '<rootDir>/test/support/global-setup.ts',
      globalTeardown: '<rootDir>/test/support/global-teardown.ts',
    },
    {
      ...common,
      displayName: 'system',
      testMatch: ['<rootDir>/test/**/*.spec.ts'],
      globalSetup: '<rootDir>/test/support/global-setup.ts',
      globalTeardown: '<rootDir>/test/support/global-teardown.ts',
    },
  ],
};
