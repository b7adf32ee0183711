import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import ts from 'typescript';

/** Gives a `require`, relative to the root of the repository, that loads TypeScript sources without a build. */
export function typescriptLoader(root) {
  const require = createRequire(join(root, 'package.json'));
  const compilerOptions = { ...ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile).config.compilerOptions };
  const options = {
    ...ts.convertCompilerOptionsFromJson(compilerOptions, root).options,
    module: ts.ModuleKind.CommonJS,
    moduleResolution: undefined,
    sourceMap: false,
    incremental: false,
  };
  require.extensions['.ts'] = (module, path) => {
    const { outputText } = ts.transpileModule(readFileSync(path, 'utf8'), { fileName: path, compilerOptions: options });
    const toLibs = (_, lib) => `require(${JSON.stringify(join(root, 'libs', lib, 'index.ts'))})`;
    module._compile(outputText.replaceAll(/require\("@app\/([\w-]+)"\)/g, toLibs), path);
  };
  return require;
}
