import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startSystem, type System } from '../support/processes';
import { describeJudged, python, report } from '../support/judges';
import { sample, variantsOfRun } from '../support/sample';

/** A failed check of one case. */
interface Failure {
  readonly check: string;
  readonly operation: string;
  readonly title: string;
  readonly message: string;
  readonly request: string;
  readonly status: number | undefined;
}

const isRefused = ({ check, status, message }: Failure, ...statuses: number[]): boolean =>
  check === 'positive_data_acceptance' && statuses.includes(status!) && !message.includes('additional propert');

/** Failures that are intended, each with the reason. */
const meant: readonly {
  readonly reason: string;
  readonly is: (failure: Failure) => boolean;
}[] = [
  {
    reason: 'Which text is a domain or an address that a customer can have (IDNA, public suffixes), no schema can say.',
    is: (failure) =>
      /^POST .*\/(domains|preflight|claims|mailboxes|setup-instructions|owners\/invitations)$/.test(
        failure.operation,
      ) && isRefused(failure, 400, 422),
  },
  {
    reason: 'The same for a sender of a rule, and no two rules may be about one sender.',
    is: (failure) => /^PUT .*\/filters$/.test(failure.operation) && isRefused(failure, 400, 422),
  },
  {
    reason: 'A list that is longer than it may be can be a body that is larger than it may be (413).',
    is: ({ check, operation, status }) =>
      check === 'negative_data_rejection' && operation.endsWith('/filters') && status === 413,
  },
  {
    reason: 'It has an API key, which opens no setup: whatever is asked there is 404, as of an unknown link.',
    is: ({ check, operation, status }) =>
      check === 'unsupported_method' && / \/setup(\/|$)/.test(operation) && status === 404,
  },
  {
    reason: 'The providers are a setting: 422 names those that there are.',
    is: (failure) => failure.operation.endsWith('/outbound-provider') && isRefused(failure, 422),
  },
  {
    reason: 'The same for `send_scope`; and `providers` without one says nothing to do (400).',
    is: (failure) => /^PATCH .*\/mailboxes\/\{id\}$/.test(failure.operation) && isRefused(failure, 400, 422),
  },
  {
    reason: 'A cursor is opaque: only one that the API has given is accepted.',
    is: (failure) => /[?&]cursor=/.test(failure.request) && isRefused(failure, 400),
  },
  {
    reason: 'A filter by what cannot be an id is refused, so that one that was left empty does not list everything.',
    is: (failure) => /[?&]domain_id=/.test(failure.request) && isRefused(failure, 400),
  },
  {
    reason: 'A time has one of several forms, and nothing is known of one that is yet to come.',
    is: (failure) =>
      (/[?&]as_of=/.test(failure.request) || failure.operation.endsWith('/replay')) && isRefused(failure, 400),
  },
  {
    reason: 'Where a webhook may point no schema can say, nor that `*` stands alone and `name` is `description`.',
    is: (failure) => /^(POST|PATCH) .*\/webhooks(\/\{id\})?$/.test(failure.operation) && isRefused(failure, 400, 422),
  },
  {
    reason: 'Either a role or permissions: a schema that says so would be closed to what is added to the body later.',
    is: (failure) => failure.operation.endsWith('/keys') && isRefused(failure, 400, 422),
  },
  {
    reason: 'The history of a domain outlives it.',
    is: ({ check, request }) => check === 'use_after_free' && /^GET \S+\/history(\?|$)/.test(request),
  },
  {
    reason: 'A key that was revoked stays in the list, and can be read.',
    is: ({ check, request }) => check === 'use_after_free' && /^(GET|DELETE) \S+\/keys\/[^/]+$/.test(request),
  },
  {
    reason: 'A condition that does not hold is refused (RFC 9110 section 13.1.1), and any text is a valid If-Match.',
    is: (failure) => isRefused(failure, 412),
  },
];

/** Bounds the run: so many cases of an operation in each phase, and a time after which it ends whatever it has done. */
const casesEach = sample(2, 10);
const seconds = sample(30, 120);
const seed = 17;

/** The operations of a usual run; with both choices, which is a whole run, no option and all of them. */
const parts = variantsOfRun([
  { of: 'domains', option: '--include-path-regex', isAmong: (path: string) => path.startsWith('/domains') },
  { of: 'everything else', option: '--exclude-path-regex', isAmong: (path: string) => !path.startsWith('/domains') },
]);
const choice = parts.length === 1 ? [`${parts[0]!.option}=^/domains`] : [];

describeJudged('the API, judged by schemathesis', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sendmux-schemathesis-'));
  let system: System;

  beforeAll(async () => {
    system = await startSystem({
      apps: ['sandbox', 'gateway', 'provisioning'],
      together: 'all',
      env: { RATE_LIMIT_PER_MINUTE: '1000000' },
    });
  });
  afterAll(async () => {
    await system?.end();
    rmSync(folder, { recursive: true, force: true });
  });

  it('does what its OpenAPI document says, and refuses what it does not', async () => {
    const permissions = ['domain.*', 'mailbox.*', 'key.*', 'owner.*', 'webhook.*'];
    const { key, api } = await system.team({ grant: { permissions } });
    const own = (await api.call('GET', '/keys')).body as { data: [{ id: string }] };
    // Something to be found from the start.
    await api.add('mail.acme.com');
    const file = join(folder, 'events.ndjson');
    const url = `http://127.0.0.1:${system.port}/api/v1/openapi.json`;
    const { status, output } = await schemathesis(url, key, own.data[0].id, file);
    const { paths } = (await (await fetch(url)).json()) as { paths: Record<string, Record<string, unknown>> };
    const chosen = Object.entries(paths).filter(([path]) => parts.some(({ isAmong }) => isAmong(path)));
    const documented = chosen.flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const events = readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Event);
    const { cases, operations, sequences, failures, errors } = summary(events);
    const unexplained = failures.filter((failure) => !meant.some(({ is }) => is(failure)));
    const unneeded = meant.filter((each) => !failures.some(each.is)).map(({ reason }) => reason);
    report(
      `API, schemathesis: ${cases} cases of ${operations.length} operations (${parts.map(({ of }) => of).join(' and ')}), ${sequences} sequences of them, seed ${seed}, ${unexplained.length} failures, ${failures.length - unexplained.length} as meant`,
    );
    expect(errors).toEqual([]);
    if (unexplained.length > 0) throw new Error(`${told(unexplained)}\n\n${output}`);
    // 1 says that there were failures, which are those above.
    expect([0, 1]).toContain(status);
    expect(operations).toEqual(documented.sort());
    // The run is bounded in time, and a slow machine draws fewer cases: none of them may need a reason then.
    if (unneeded.length > 0) console.log(`no case needed:\n${unneeded.join('\n')}`);
    expect(cases).toBeGreaterThan(operations.length);
    // The sequences come last: the time must not be over by then.
    expect(sequences).toBeGreaterThan(10);
  });
});

/** It must not stand in the way of the apps, whose logs go through this process. */
function schemathesis(
  url: string,
  key: string,
  own: string,
  file: string,
): Promise<{ status: number | null; output: string }> {
  const options: Record<string, string> = {
    checks: 'all',
    phases: 'examples,coverage,fuzzing,stateful',
    'max-examples': String(casesEach),
    'max-time': String(seconds),
    seed: String(seed),
    header: `Authorization: Bearer ${key}`,
    'generation-database': 'none',
    report: 'ndjson',
    'report-ndjson-path': file,
  };
  const flags = ['--continue-on-failure', '--no-shrink', '--no-color'];
  const written = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  // It may rotate and revoke every key but its own.
  const hooks = join(__dirname, 'own_key.py');
  const child = spawn(python!, ['-I', '-B', '-m', 'schemathesis.cli', 'run', url, ...written, ...choice, ...flags], {
    cwd: join(file, '..'),
    env: { ...process.env, SCHEMATHESIS_HOOKS: hooks, OWN_KEY: own },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, output }));
  });
}

/** A line of the report in NDJSON, as far as it is read here. */
interface Event {
  readonly ScenarioFinished?: {
    readonly recorder: {
      readonly label: string;
      readonly checks?: Record<
        string,
        { name: string; status: string; failure_info?: { failure: Omit<Failure, 'check' | 'request' | 'status'> } }[]
      >;
      readonly interactions?: Record<
        string,
        { request: { method: string; uri: string }; response?: { status_code: number } }
      >;
    };
  };
  readonly NonFatalError?: { readonly value: unknown };
  readonly FatalError?: { readonly exception: unknown };
}

function summary(events: readonly Event[]) {
  const operations = new Set<string>();
  const failures: Failure[] = [];
  let [cases, sequences] = [0, 0];
  for (const { ScenarioFinished: scenario } of events) {
    if (!scenario) continue;
    const { label, interactions = {}, checks = {} } = scenario.recorder;
    cases += Object.keys(interactions).length;
    // The other label is that of sequences of operations.
    if (/^[A-Z]+ \//.test(label)) operations.add(label);
    else sequences += 1;
    for (const [id, done] of Object.entries(checks))
      for (const { name, failure_info: info } of done) {
        if (!info) continue;
        const { request, response } = interactions[id] ?? {};
        const { operation, title, message } = info.failure;
        failures.push({
          check: name,
          operation,
          title,
          message,
          request: request ? `${request.method} ${request.uri}` : '',
          status: response?.status_code,
        });
      }
  }
  const errors = events.flatMap(({ NonFatalError: passing, FatalError: fatal }) => [
    ...(passing ? [passing.value] : []),
    ...(fatal ? [fatal.exception] : []),
  ]);
  return { cases, operations: [...operations].sort(), sequences, failures, errors };
}

/** Each kind of failure once, with how often it came and the first of them. */
function told(failures: readonly Failure[]): string {
  const kinds = new Map<string, Failure[]>();
  for (const failure of failures) {
    const kind = `${failure.check} ${failure.operation} ${failure.title} ${failure.status}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), failure]);
  }
  return [...kinds]
    .map(
      ([kind, [first, ...others]]) => `${kind} (${others.length + 1} times)\n  ${first!.request}\n  ${first!.message}`,
    )
    .join('\n');
}
