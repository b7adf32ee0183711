import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { Webhook } from 'standardwebhooks';
import ts from 'typescript';
import { report } from '../support/judges';
import { breakingChanges, lastRelease, type Document } from '../support/openapi-changes';
import { startEndpoint, type TestEndpoint } from '../support/endpoint';
import { startSystem, type ApiClient, type System } from '../support/processes';
import { docs, documented, tourInTypeScript } from './documented';
import { McpClient, type ToolResult } from './mcp';
import { buildInRust, python, runProgram, rust } from './programs';

const root = resolve(__dirname, '../..');
const itInPython = python ? it : it.skip;
const itInRust = rust ? it : it.skip;

/** Operations that the clients have, and this service has not, such as rules and passwords of single mailboxes. */
const notOurs = {
  python: [
    'managementGetMailboxFilters',
    'managementSetMailboxFilters',
    'managementCreateMailboxKey',
    'managementDeleteMailboxKey',
  ],
  mcp: [
    'management_create_mailbox_key',
    'management_delete_mailbox_key',
    'management_list_email_logs',
    'management_get_email_log',
    'management_get_email_metrics',
    'management_get_spend_summary',
  ],
};

/** Each error as a client has it. */
const errors = [
  ['401', 401, 'authentication_required', false],
  ['403', 403, 'insufficient_permissions', false],
  ['404', 404, 'not_found', false],
  ['409', 409, 'conflict', false],
  ['422', 422, 'validation_error', false],
  ['429', 429, 'rate_limit_exceeded', true],
] as const;

/** What a program says of a call. */
interface Call {
  readonly call: string;
  readonly outcome: 'answer' | 'error' | 'broken';
  readonly names?: readonly string[];
  readonly [detail: string]: unknown;
}

const limit = 150;
let system: System;
let baseUrl: string;
let folder: string;
let many: { api: ApiClient; names: string[] };
let endpoint: TestEndpoint;
const servers: McpClient[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sendmux-clients-'));
  system = await startSystem({
    apps: ['sandbox', 'gateway', 'provisioning', 'verification-scheduler', 'webhooks'],
    together: 'all',
    env: { RATE_LIMIT_PER_MINUTE: String(limit), SES_CALLS_PER_SECOND: '1000', WEBHOOKS_ALLOW_LOOPBACK: 'true' },
  });
  baseUrl = `http://127.0.0.1:${system.port}/api/v1`;
  endpoint = await startEndpoint();
  many = await teamOfManyDomains(130);
});

afterAll(async () => {
  await Promise.all(servers.map((server) => server.close()));
  await system?.end();
  await endpoint?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function teamOfManyDomains(count: number): Promise<typeof many> {
  const { api } = await system.team();
  const names = Array.from({ length: count }, (_, index) => `d${index}.many.example.com`);
  const left = [...names];
  const addNext = async (): Promise<void> => {
    for (let name = left.pop(); name !== undefined; name = left.pop()) expect((await api.add(name)).status).toBe(201);
  };
  await Promise.all(Array.from({ length: 10 }, addNext));
  return { api, names };
}

/** Gives a key that may only read. */
async function readonlyKey(api: ApiClient): Promise<{ id: string; key: string }> {
  const created = await api.call('POST', '/keys', { name: 'of a client', role: 'root:readonly' });
  expect(created.status).toBe(201);
  return (created.body as { data: { id: string; key: string } }).data;
}

/** What a client works with: a team of its own, whose keys have sent nothing yet, and a domain that is verified. */
async function given(client: string) {
  const { api, key } = await system.team();
  const added = await api.add(`${client}.example.com`);
  await system.sandbox.place(added.body);
  const { id, domain } = (added.body as { data: { id: string; domain: string } }).data;
  await system.until(`${domain} is verified`, async () => {
    const verified = (await api.verify(id)).body as { data?: { status: string } };
    return verified.data?.status === 'verified';
  });
  return {
    base_url: baseUrl,
    limit,
    key,
    readonly_key: (await readonlyKey(api)).key,
    limited_key: (await readonlyKey(api)).key,
    many_key: (await readonlyKey(many.api)).key,
    verified_domain: { id, domain },
    new_domain: `new.${client}.example.com`,
    new_mode: 'send_only',
    webhook_url: `${endpoint.url}&client=${client}`,
  };
}

/** Sends requests with a key until it may send no more in this minute. */
async function exhaust(key: string): Promise<void> {
  const headers = { authorization: `Bearer ${key}` };
  while ((await fetch(`${baseUrl}/me`, { headers })).status === 200);
}

/** Runs a program to its end, in the folder of the test. */
const run = (command: string, args: readonly string[], env: object = {}, input = ''): Promise<string> =>
  runProgram(command, args, { cwd: folder, env: { PATH: process.env.PATH, SENDMUX_BASE_URL: baseUrl, ...env } }, input);

/** Has a program make its calls, and expects it to tell of each. */
async function callsOf(command: string, args: readonly string[], client: string): Promise<Map<string, Call>> {
  const output = await run(command, args, {}, `${JSON.stringify(await given(client))}\n`);
  const lines = output.trim().split('\n');
  return new Map(lines.map((line) => JSON.parse(line) as Call).map((call) => [call.call, call]));
}

function expectErrors(calls: Map<string, Call>): void {
  for (const [name, status, code, retryable] of errors)
    expect(calls.get(name)).toMatchObject({
      outcome: 'error',
      status,
      code,
      retryable,
      id: expect.stringMatching(/^req_/) as string,
    });
}

function expectWholeList(names: readonly string[] | undefined): void {
  expect([...(names ?? [])].sort()).toEqual([...many.names].sort());
}

const isError = (name: string): boolean => /^\d{3}$/.test(name);
const calledOperations = (calls: Map<string, Call>) =>
  [...calls.values()].filter(({ call }) => !isError(call) && call !== 'whole list');

itInPython('the Python client does all that this service does, and knows its errors', async () => {
  const calls = await callsOf(python!, ['-I', '-B', join(__dirname, 'management.py')], 'python');
  const operations = calledOperations(calls);
  const answered = operations.filter(({ outcome }) => outcome === 'answer');
  report(
    `Python client sendmux-management: ${answered.length} of ${operations.length} operations answer and parse; not ours: ${notOurs.python.join(', ')}`,
  );
  expect(operations).toHaveLength(29);
  expect(operations.filter(({ call, outcome }) => outcome !== 'answer' && !notOurs.python.includes(call))).toEqual([]);
  for (const name of notOurs.python)
    expect(calls.get(name)).toMatchObject({ outcome: 'error', status: 404, code: 'not_found' });
  expectErrors(calls);
  expectWholeList(calls.get('whole list')?.names);
});

itInRust('the Rust client does all that it has for this service, and knows its errors', async () => {
  const programs = await buildInRust(documented('rust'));
  const calls = await callsOf(join(programs, 'management'), [], 'rust');
  const operations = calledOperations(calls);
  const answered = operations.filter(({ outcome }) => outcome === 'answer');
  report(`Rust client sendmux: ${answered.length} of ${operations.length} operations answer and parse`);
  expect(operations).toHaveLength(10);
  expect(operations.filter(({ outcome }) => outcome !== 'answer')).toEqual([]);
  expectErrors(calls);
  expect([...calls.values()].filter(({ outcome, detailed }) => outcome === 'error' && !detailed)).toEqual([]);
  expectWholeList(calls.get('whole list')?.names);

  const { api, key } = await system.team();
  const said = await run(join(programs, 'documented'), [], { SENDMUX_API_KEY: key });
  expect(said).toContain('_dmarc.rust.acme.com');
  expect(said).toContain('"pending"\n');
  expect((await api.list()).body).toMatchObject({ data: [{ domain: 'rust.acme.com' }] });
});

/** What the tests read of the answers of tools. */
interface ToolData {
  readonly data: {
    readonly id: string;
    readonly mailbox?: { readonly id: string };
    readonly secret?: string;
    readonly event_id?: string;
  };
}

describe('the server of tools', () => {
  const { command, env } = JSON.parse(documented('json')) as { command: string; env: NodeJS.ProcessEnv };

  /** Starts it as docs/clients.md says. Errors are to be seen, not waited for. */
  async function start(key: string, document?: string): Promise<McpClient> {
    const client = new McpClient(join(dirname(python!), command), {
      ...env,
      PATH: process.env.PATH,
      SENDMUX_API_KEY: key,
      SENDMUX_APP_BASE_URL: baseUrl,
      SENDMUX_MCP_APP_OPENAPI: document,
      SENDMUX_MCP_RETRY_MAX_ATTEMPTS: '1',
    });
    servers.push(client);
    await client.initialize();
    return client;
  }

  /** Gives `answer`, or what the tool says of its failure. */
  const outcomeOf = ({ isError, content }: ToolResult): string =>
    isError ? content.map(({ text }) => text).join('\n') : 'answer';

  /** Calls the tools that this service has, in an order in which each can do its work. Gives how each went. */
  async function useTools(
    client: McpClient,
    { new_domain, verified_domain, webhook_url: url }: Awaited<ReturnType<typeof given>>,
    id: string,
  ) {
    const outcomes = new Map<string, string>();
    const use = async (tool: string, args: object = {}) => {
      const result = await client.call(`management_${tool}`, args);
      outcomes.set(`management_${tool}`, outcomeOf(result));
      return result.structuredContent as ToolData | undefined;
    };
    await use('get_connection');
    const added = await use('create_domain', { domain: new_domain });
    const domain = { [id]: added?.data.id ?? verified_domain.id };
    await use('list_domains');
    await use('get_domain', domain);
    await use('get_domain_zone_file', domain);
    await use('verify_domain', domain);
    const email = `mary@${verified_domain.domain}`;
    await use('check_mailbox_availability', { email });
    const created = await use('create_mailbox', { email, display_name: 'Mary' });
    const mailbox = { [id]: created?.data.mailbox?.id ?? created?.data.id ?? 'mbx_none' };
    await use('list_mailboxes');
    await use('get_mailbox', mailbox);
    await use('update_mailbox', { ...mailbox, display_name: 'Mary Shelley' });
    await use('suspend_mailbox', mailbox);
    await use('resume_mailbox', mailbox);
    // The packaged document has no other type of ours.
    const webhook = await use('create_webhook', { url, event_types: ['sendmux.test'] });
    await use('list_webhooks');
    const tested = await use('test_webhook', { [id]: webhook?.data.id ?? 'whk_none' });
    return { outcomes, secret: webhook?.data.secret, test: tested?.data.event_id };
  }

  itInPython('has the tools of this service by its OpenAPI document, and tells of its errors', async () => {
    const document = join(folder, env.SENDMUX_MCP_APP_OPENAPI!);
    await run('sh', ['-c', documented('bash', 'sendmux-app.json').replace(/^python /, `${python} `)]);
    const things = await given('mcp');
    const client = await start(things.key, document);
    const tools = await client.tools();
    const { outcomes, secret, test } = await useTools(client, things, 'id');
    const answered = [...outcomes.values()].filter((outcome) => outcome === 'answer');
    report(
      `MCP server sendmux-mcp with our OpenAPI document: ${answered.length} of ${tools.length} tools answer; not ours: ${notOurs.mcp.join(', ')}`,
    );
    expect(tools).toHaveLength(22);
    expect([...outcomes.keys(), ...notOurs.mcp].sort()).toEqual([...tools].sort());
    expect([...outcomes].filter(([, outcome]) => outcome !== 'answer')).toEqual([]);
    await system.until('the test has arrived', () => endpoint.arrivals.some((each) => each.id === test));
    const { body, headers } = endpoint.arrivals.find((each) => each.id === test)!;
    expect(new Webhook(secret!).verify(body, headers as Record<string, string>)).toMatchObject({
      type: 'sendmux.test',
    });

    const refused = async (tool: string, args: object, by = client) => {
      return outcomeOf(await by.call(`management_${tool}`, args));
    };
    expect(await refused('get_domain', { id: 'mdom_none' })).toContain('not_found');
    expect(await refused('create_domain', { domain: things.verified_domain.domain })).toContain('conflict');
    const scope = { type: 'providers', provider_public_ids: ['nobody'] };
    const wrong = { email: `a@${things.verified_domain.domain}`, send_scope: scope };
    expect(await refused('create_mailbox', wrong)).toContain('validation_error');
    expect(await refused('list_email_logs', {})).toContain('not_found');
    const names: string[] = [];
    const ofManyKey = await readonlyKey(many.api);
    const ofMany = await start(ofManyKey.key, document);
    for (let cursor: string | undefined, isMore = true; isMore;) {
      const page = await ofMany.call('management_list_domains', cursor ? { cursor } : {});
      const { data, pagination } = page.structuredContent as {
        data: { domain: string }[];
        pagination: { has_more: boolean; next_cursor?: string };
      };
      names.push(...data.map(({ domain }) => domain));
      [cursor, isMore] = [pagination.next_cursor, pagination.has_more];
    }
    expectWholeList(names);
    expect(await refused('create_domain', { domain: 'a.example.com' }, ofMany)).toContain('insufficient_permissions');
    let outcome = 'answer';
    // The minute may end between the two.
    for (let attempts = 0; attempts < 3 && outcome === 'answer'; attempts++) {
      await exhaust(ofManyKey.key);
      outcome = await refused('get_connection', {}, ofMany);
    }
    expect(outcome).toContain('rate_limit_exceeded');
    expect((await many.api.call('DELETE', `/keys/${ofManyKey.id}`)).status).toBe(200);
    expect(await refused('get_connection', {}, ofMany)).toContain('authentication_required');
  });

  itInPython('does what it can by the document that it brings along', async () => {
    const things = await given('packaged');
    const client = await start(things.key);
    const { outcomes } = await useTools(client, things, 'public_id');
    const answered = [...outcomes].flatMap(([tool, outcome]) => (outcome === 'answer' ? tool : []));
    report(
      `MCP server sendmux-mcp with its own document: ${answered.length} of 22 tools answer: ${answered.join(', ')}`,
    );
    expect(answered).toContain('management_get_domain_zone_file');
  });
});

itInPython('the Python of docs/clients.md runs', async () => {
  const { key, api } = await system.team();
  const said = await run(python!, ['-I', '-B', '-c', documented('python')], { SENDMUX_API_KEY: key });
  expect(said).toContain('_dmarc.python.acme.com');
  expect(said).toMatch(/\npending\n\['python\.acme\.com'\]\nnot_found\n$/);
  expect((await api.list()).body).toMatchObject({ data: [{ domain: 'python.acme.com' }] });
});

describe('the client in TypeScript', () => {
  // It is where its library is found.
  const project = join(root, 'test-results', `typescript-${process.pid}`);

  beforeAll(async () => {
    mkdirSync(project, { recursive: true });
    const compilerOptions = { strict: true, noEmit: true, module: 'nodenext', target: 'es2022', types: ['node'] };
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions }));
    const generate = join(root, 'node_modules/openapi-typescript/bin/cli.js');
    // What docs/clients.md says after the address of the document.
    const options = /openapi\.json -o sendmux\.d\.ts([^`]*)`/.exec(docs())![1]!.trim().split(/\s+/);
    const args = [generate, `${baseUrl}/openapi.json`, '-o', join(project, 'sendmux.d.ts'), ...options];
    await run(process.execPath, args);
  });
  afterAll(() => rmSync(project, { recursive: true, force: true }));

  it('has types by which docs/clients.md and the tour of the README are right, and mistakes are not', () => {
    const program = documented('typescript');
    const tour = tourInTypeScript();
    writeFileSync(join(project, 'documented.mts'), program);
    writeFileSync(join(project, 'tour.mts'), tour);
    const mistakes = [
      ["api.POST('/domains', { body", "api.POST('/domain', { body"],
      ['{"domain":', '{"name":'],
      ["query: { format: 'bind' }", "query: { format: 'toml' }"],
      ['.verification_status', '.verified'],
      ["=== 'failed'", "=== 'broken'"],
    ] as const;
    for (const [index, [right, wrong]] of mistakes.entries()) {
      expect(tour).toContain(right);
      writeFileSync(join(project, `mistake${index}.mts`), tour.replace(right, wrong));
    }
    const compiler = join(root, 'node_modules/typescript-7/bin/tsc');
    const { stdout } = spawnSync(process.execPath, [compiler, '-p', project, '--pretty', 'false'], {
      encoding: 'utf8',
    });
    const files = [...stdout.matchAll(/^\S*?(\w+)\.mts\(\d+,\d+\): error/gm)].map(([, file]) => file);
    expect([stdout, [...new Set(files)].sort()]).toEqual([stdout, mistakes.map((_, index) => `mistake${index}`)]);
  });

  it('does what docs/clients.md has it do', async () => {
    const { key } = await system.team();
    const { outputText } = ts.transpileModule(documented('typescript'), {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
    });
    const file = join(project, 'documented.mjs');
    writeFileSync(file, outputText);
    const said = await run(process.execPath, [file], { SENDMUX_API_KEY: key });
    expect(said).toContain("target: 'mail.sendmux.ai'");
    expect(said).toMatch(/\npending\n\[ 'typescript\.acme\.com' \]\n$/);
  });
});

it('the document that is served keeps what the last release has promised', async () => {
  const releases = join(root, 'docs/openapi');
  const released = readFileSync(join(releases, `${lastRelease(releases)!}.json`), 'utf8');
  const served = (await (await fetch(`${baseUrl}/openapi.json`)).json()) as Document;
  expect(breakingChanges(JSON.parse(released) as Document, served)).toEqual([]);
});
