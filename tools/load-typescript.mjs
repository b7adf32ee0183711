import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import swc from '@swc/core';
import swcOptions from './swc-options.cjs';

/** Gives a `require`, relative to the root of the repository, that loads TypeScript sources without a build. */
export function typescriptLoader(root) {
  const require = createRequire(join(root, 'package.json'));
  // As the tests load them. TypeScript itself takes five times as long.
  const options = { swcrc: false, ...swcOptions };
  require.extensions['.ts'] = (module, path) => {
    const { code } = swc.transformSync(readFileSync(path, 'utf8'), { ...options, filename: path });
    const toLibs = (_, lib) => `require(${JSON.stringify(join(root, 'libs', lib, 'index.ts'))})`;
    module._compile(code.replaceAll(/require\("@app\/([\w-]+)"\)/g, toLibs), path);
  };
  return require;
}
