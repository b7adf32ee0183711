// A test runner for Stryker that runs the specs of Jest by jest-circus, the part of Jest that has `describe` and `it`,
// without the rest of it. All packages stay loaded from one mutant to the next; our own sources are loaded anew. A
// mutant then takes the time of the tests that reach it, and not the second that Jest needs to begin.
import { readFileSync } from 'node:fs';
import { createRequire, Module } from 'node:module';
import { dirname, join } from 'node:path';
import { constants, Script } from 'node:vm';

/** What Stryker calls the outcomes of tests. */
const [success, failed, skipped] = [0, 1, 2];

class CircusRunner {
  #files;
  #root = process.cwd();
  #tests;
  #isMutated;
  #leftOut;
  /** Names of the test files to run, from the root of the sources. */
  constructor(options) {
    this.#files = options.circus.files;
    this.#leftOut = options.circus.leftOut ?? [];
    const mutated = new Set(options.circus.mutated.map((name) => join(this.#root, name)));
    this.#isMutated = (path) => mutated.has(path);
  }

  capabilities() {
    return { reloadEnvironment: true };
  }

  init() {
    const root = this.#root;
    const require = createRequire(join(root, 'package.json'));
    const jest = createRequire(require.resolve('jest-cli', { paths: [require.resolve('jest')] }));
    const core = createRequire(jest.resolve('jest-config'));
    const circus = core('jest-circus');
    const ofCircus = createRequire(core.resolve('jest-circus'));
    const { jestExpect } = ofCircus('@jest/expect');
    const environment = createRequire(core.resolve('jest-environment-node'));
    const { ModuleMocker } = environment('jest-mock');
    const { ModernFakeTimers } = environment('@jest/fake-timers');
    const mocker = new ModuleMocker(globalThis);
    const timers = new ModernFakeTimers({ config: { fakeTimers: {}, rootDir: root }, global: globalThis });
    const { describe, it, test, beforeAll, beforeEach, afterAll, afterEach } = circus;
    Object.assign(globalThis, { describe, it, test, beforeAll, beforeEach, afterAll, afterEach, expect: jestExpect });
    globalThis.jest = {
      fn: mocker.fn.bind(mocker),
      spyOn: mocker.spyOn.bind(mocker),
      restoreAllMocks: () => mocker.restoreAllMocks(),
      useFakeTimers: (settings) => timers.useFakeTimers(settings),
      useRealTimers: () => timers.useRealTimers(),
      advanceTimersByTime: (ms) => timers.advanceTimersByTime(ms),
      setTimeout: () => undefined,
    };
    for (const stream of [process.stdout, process.stderr]) stream.write = () => true;
    for (const event of ['unhandledRejection', 'uncaughtException'])
      process.on(event, (reason) => this.#stray.push(reason));
    loadTypeScript(root, require('@swc/core'), require(join(root, 'jest.config.js')));
    renameMetrics(require);
    sampleProperties(require);
    this.#tests = testsOf(circus, mocker, timers);
    return Promise.resolve();
  }

  /** What no test has waited for, since the last run. */
  #stray = [];

  async dryRun() {
    const namespace = (globalThis.__stryker__ ??= {});
    const tests = [];
    for (const file of this.#files) tests.push(...(await this.#runFile(file, namespace)));
    const mutantCoverage = namespace.mutantCoverage ?? { static: {}, perTest: {} };
    return { status: 'complete', tests, mutantCoverage };
  }

  async mutantRun({ activeMutant, testFilter, hitLimit }) {
    const namespace = (globalThis.__stryker__ ??= {});
    Object.assign(namespace, {
      activeMutant: activeMutant.id,
      hitLimit,
      hitCount: hitLimit === undefined ? undefined : 0,
    });
    let run = 0;
    try {
      for (const file of this.#files) {
        const wanted = testFilter && new Set(testFilter.filter((id) => id.startsWith(`${file} `)));
        if (wanted?.size === 0) continue;
        const all = wanted?.has(loadOf(file)) ? undefined : wanted;
        const tests = await this.#runFile(file, namespace, all, true);
        if (namespace.hitCount > hitLimit) return { status: 'timeout', reason: `Reached ${hitLimit} times` };
        run += tests.filter(({ status }) => status !== skipped).length;
        const killer = tests.find(({ status }) => status === failed);
        if (killer)
          return { status: 'killed', killedBy: [killer.id], failureMessage: killer.failureMessage, nrOfTests: run };
      }
      return { status: 'survived', nrOfTests: run };
    } finally {
      Object.assign(namespace, { activeMutant: undefined, hitLimit: undefined, hitCount: undefined });
    }
  }

  /**
   * Runs the tests of a file; of those that are wanted, where it is said, and no further than the first failure where
   * that is enough. What is reached while the file is loaded is reached by a test of that name.
   */
  async #runFile(file, namespace, wanted, bail = false) {
    const load = loadOf(file);
    const path = join(this.#root, file);
    forgetMutated(this.#isMutated);
    delete Module._cache[path];
    this.#stray.length = 0;
    namespace.currentTestId = load;
    const since = performance.now();
    const outcome = await this.#tests(path, {
      bail,
      idOf: (name) => `${file} ${name}`,
      isWanted: (id) => (!wanted || wanted.has(id)) && !this.#leftOut.some((text) => id.includes(text)),
      begins: (id) => (namespace.currentTestId = id ?? load),
    });
    namespace.currentTestId = undefined;
    const timeSpentMs = Math.round(performance.now() - since);
    const reason = outcome.error ?? this.#stray[0];
    const loaded = { id: load, name: load, timeSpentMs, fileName: file };
    return [
      ...outcome.tests.map((test) => ({ ...test, fileName: file })),
      reason === undefined
        ? { ...loaded, status: success }
        : { ...loaded, status: failed, failureMessage: String(reason?.stack ?? reason) },
    ];
  }
}

const loadOf = (file) => `${file} (is loaded)`;

/** Gives what registers and runs the tests of one file. */
function testsOf(circus, mocker, timers) {
  let now;
  circus.addEventHandler((event) => {
    if (event.name === 'test_start') now?.begins(now.ids.get(event.test));
    else if (event.name === 'test_done') {
      now?.begins();
      if (now?.bail && event.test.errors.length > 0) for (const test of now.ids.keys()) test.mode = 'skip';
    }
  });
  return async (path, { bail, idOf, isWanted, begins }) => {
    circus.resetState();
    circus.getState().testTimeout = 120_000;
    const ids = new Map();
    try {
      createRequire(path)(path);
      const seen = new Map();
      for (const [test, name] of testsIn(circus.getState().rootDescribeBlock)) {
        const count = (seen.get(name) ?? 0) + 1;
        seen.set(name, count);
        const id = idOf(count === 1 ? name : `${name} #${count}`);
        ids.set(test, id);
        if (!isWanted(id)) test.mode = 'skip';
      }
      now = { ids, bail, begins };
      const { unhandledErrors } = await circus.run();
      const tests = [...ids].map(([test, id]) => resultOf(test, id));
      return { tests, error: unhandledErrors[0] };
    } catch (error) {
      return { tests: [], error };
    } finally {
      now = undefined;
      mocker.restoreAllMocks();
      timers.useRealTimers();
    }
  };
}

function* testsIn(block, above = '') {
  for (const child of block.children) {
    const name = `${above}${child.name}`;
    if (child.type === 'test') yield [child, name];
    else yield* testsIn(child, `${name} `);
  }
}

function resultOf({ errors, status, duration }, id) {
  const result = { id, name: id, timeSpentMs: duration ?? 0 };
  if (errors.length > 0) {
    const [error] = errors.flat();
    return { ...result, status: failed, failureMessage: String(error?.stack ?? error) };
  }
  return { ...result, status: status === 'done' ? success : skipped };
}

/** Has properties tried with a tenth of their samples, 3 to 20, which are the same each time. */
function sampleProperties(require) {
  const fc = require('fast-check');
  const assert = (property, parameters = {}) => {
    const numRuns = Math.max(3, Math.min(20, (parameters.numRuns ?? 100) / 10));
    return fc.assert(property, { ...parameters, numRuns: Math.ceil(numRuns), seed: 31 });
  };
  const sampled = new Proxy(
    {},
    { get: (_, key) => (key === 'assert' ? assert : key === 'default' ? sampled : fc[key]) },
  );
  const load = Module._load;
  Module._load = function (request, ...rest) {
    return request === 'fast-check' ? sampled : load.call(this, request, ...rest);
  };
}

/** Has `require` load TypeScript as Jest does here, each text compiled once. */
function loadTypeScript(root, swc, { projects: [{ transform }] }) {
  const [, options] = transform['^.+\\.ts$'];
  const scripts = new Map();
  Module._extensions['.ts'] = (module, path) => {
    let script = scripts.get(path);
    if (!script) {
      const { code } = swc.transformSync(readFileSync(path, 'utf8'), { ...options, sourceMaps: false, filename: path });
      const wrapped = `(function (exports, require, module, __filename, __dirname) { ${code}\n})`;
      script = new Script(wrapped, {
        filename: path,
        importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
      });
      scripts.set(path, script);
    }
    const require = Object.assign((name) => module.require(name), { resolve: createRequire(path).resolve });
    script.runInThisContext().call(module.exports, module.exports, require, module, path, dirname(path));
  };
  const resolve = Module._resolveFilename;
  Module._resolveFilename = function (request, parent, ...rest) {
    const lib = /^@app\/([^/]+)$/.exec(request)?.[1];
    if (lib) return join(root, 'libs', lib, 'index.ts');
    try {
      return resolve.call(this, request, parent, ...rest);
    } catch (error) {
      // An import() of ours names the compiled file, as TypeScript wants it.
      if (!/^\..*\.js$/.test(request)) throw error;
      return resolve.call(this, request.slice(0, -3), parent, ...rest);
    }
  };
}

/** Has the sources that are mutated, and all that depend on them, loaded anew. */
function forgetMutated(isMutated) {
  const dirty = new Set();
  const seen = new Set();
  const visit = (module) => {
    if (seen.has(module)) return dirty.has(module);
    seen.add(module);
    let isDirty = isMutated(module.filename);
    if (!module.filename.includes('/node_modules/'))
      for (const child of module.children) if (visit(child)) isDirty = true;
    if (isDirty) dirty.add(module);
    return isDirty;
  };
  const modules = Object.values(Module._cache);
  // A module of a cycle may be visited before what makes it dirty, so that it is visited until nothing changes.
  for (let before = -1; before !== dirty.size;) {
    before = dirty.size;
    seen.clear();
    for (const module of dirty) seen.add(module);
    for (const module of modules) visit(module);
  }
  for (const { filename } of dirty) delete Module._cache[filename];
}

/** Lets a module that is loaded anew name its metrics again. */
function renameMetrics(require) {
  const { Registry } = require('prom-client');
  const { registerMetric } = Registry.prototype;
  Registry.prototype.registerMetric = function (metric) {
    this.removeSingleMetric(metric.name);
    return registerMetric.call(this, metric);
  };
}

const runnerOf = (injector) => new CircusRunner(injector.resolve('options'));
runnerOf.inject = ['$injector'];

export const strykerPlugins = [{ kind: 'TestRunner', name: 'circus', factory: runnerOf }];
