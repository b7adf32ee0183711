/** How swc reads the TypeScript of this repository, for the tests and for the tools that load it without a build. */
module.exports = {
  module: { type: 'commonjs' },
  jsc: {
    target: 'es2022',
    keepClassNames: true,
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
  },
};
