import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../local/embedded-postgres';

export interface Postfix {
  /** Gives the reply to `RCPT TO:<address>`, such as `250 2.1.5 Ok` or `554 5.7.1 …`. */
  rcpt(address: string, sender?: string): Promise<string>;
  /**
   * Sends a mail from an authorised client; gives the reply to the end of its data, or to the command that was refused.
   */
  submit(sender: string, ...recipients: string[]): Promise<string>;
  /** Gives the headers of a mail that waits in the queue, by the reply to its submission. */
  headers(reply: string): string[];
  /** What a map of the documentation gives for a key (`postmap -q`); empty when it has none. */
  lookUp(file: string, key: string): string;
  stop(): void;
}

/** The configuration in docs/operations/postfix.md, so that the tests cover what operators are told to write. */
const blocks = [
  ...readFileSync(join(__dirname, '../../docs/operations/postfix.md'), 'utf8').matchAll(/```ini\n([^]*?)```/g),
].map(([, text]) => text!.trim().split('\n'));
const named = (line: string): [string, string] => [
  line.split(' = ', 1)[0]!.replace(/ =$/, ''),
  line.replace(/^[^=]*= ?/, ''),
];
const mainCf = blocks.at(-1)!.map(named);
/** The file and query of each map that `main.cf` names, in the order of the document. */
const lookups = [
  'sendmux-domains.cf',
  'sendmux-mailboxes.cf',
  'sendmux-suspended-recipients.cf',
  'sendmux-suspended-senders.cf',
  'sendmux-relays.cf',
  'sendmux-roles.cf',
  'sendmux-tenants.cf',
].map((file, i): [string, string] => [file, `${blocks[i]!.at(-1)}\n`]);

/** Whether Postfix is installed and can start, which needs root. */
export const postfixIsInstalled = (): boolean =>
  process.getuid?.() === 0 &&
  existsSync('/usr/lib/postfix/sbin/master') &&
  existsSync('/usr/lib/postfix/postfix-pgsql.so');

/**
 * Starts a real Postfix that reads its domains from the mail server database, with a queue and a configuration of its
 * own.
 *
 * @param policyPort the port of the policy service; without it, Postfix asks none.
 */
export async function startPostfix(databaseUrl: string, policyPort?: number): Promise<Postfix> {
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-postfix-'));
  chmodSync(directory, 0o755);
  const [conf, spool, data] = ['conf', 'spool', 'data'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [conf, spool, data]) mkdirSync(path);
  const uid = Number(spawnSync('id', ['-u', 'postfix'], { encoding: 'utf8' }).stdout);
  chownSync(data, uid, Number(spawnSync('id', ['-g', 'postfix'], { encoding: 'utf8' }).stdout));
  const port = await freePort();
  const url = new URL(databaseUrl);
  const access = `hosts = ${url.host}\nuser = ${url.username}\npassword = ${decodeURIComponent(url.password)}\ndbname = ${url.pathname.slice(1)}\n`;
  for (const [file, lines] of lookups) writeFileSync(join(conf, file), access + lines);
  writeFileSync(
    join(conf, 'main.cf'),
    Object.entries({
      compatibility_level: '3.6',
      queue_directory: spool,
      data_directory: data,
      command_directory: '/usr/sbin',
      daemon_directory: '/usr/lib/postfix/sbin',
      mail_owner: 'postfix',
      setgid_group: 'postdrop',
      maillog_file: `${directory}/maillog`,
      maillog_file_prefixes: directory,
      inet_interfaces: '127.0.0.1',
      inet_protocols: 'ipv4',
      myhostname: 'mail.sendmux.ai',
      mynetworks: '',
      local_recipient_maps: '',
      local_transport: 'error:5.1.1 no local delivery',
      alias_maps: '',
      alias_database: '',
      relayhost: '[127.0.0.1]:9',
      ...Object.fromEntries(
        mainCf.map(([name, value]) => [name, askingPolicy(value.replaceAll('/etc/postfix', conf), policyPort)]),
      ),
      virtual_transport: 'discard:',
      smtpd_peername_lookup: 'no',
      notify_classes: '',
    })
      .map(([name, value]) => `${name} = ${value}\n`)
      .join(''),
  );
  const submission = await freePort();
  // An smtpd process caches the answers of maps. With max_use=1 each connection gets a new process.
  const services = [
    `127.0.0.1:${port} inet n - n - - smtpd -o max_use=1`,
    `127.0.0.1:${submission} inet n - n - - smtpd -o max_use=1 -o mynetworks=127.0.0.0/8 -o smtpd_relay_restrictions=permit_mynetworks,reject`,
    'pickup unix n - n 60 1 pickup',
    'cleanup unix n - n - 0 cleanup',
    'qmgr unix n - n 300 1 qmgr',
    'tlsmgr unix - - n 1000? 1 tlsmgr',
    'rewrite unix - - n - - trivial-rewrite',
    ...['bounce', 'defer', 'trace'].map((name) => `${name} unix - - n - 0 bounce`),
    'verify unix - - n - 1 verify',
    'flush unix n - n 1000? 0 flush',
    'proxymap unix - - n - - proxymap',
    'smtp unix - - n - - smtp',
    'relay unix - - n - - smtp',
    'error unix - - n - - error',
    'retry unix - - n - - error',
    'discard unix - - n - - discard',
    'virtual unix - n n - - virtual',
    'anvil unix - - n - 1 anvil',
    'scache unix - - n - 1 scache',
    'postlog unix-dgram n - n - 1 postlogd',
  ];
  writeFileSync(join(conf, 'master.cf'), services.join('\n') + '\n');
  const postfix = (command: string) => spawnSync('postfix', ['-c', conf, command], { encoding: 'utf8' });
  postfix('check');
  const master = spawn('postfix', ['-c', conf, 'start-fg'], { stdio: 'ignore', detached: true });
  const stop = () => {
    postfix('abort');
    if (master.exitCode === null) master.kill('SIGTERM');
    rmSync(directory, { recursive: true, force: true });
  };
  for (let i = 0; ; i++) {
    if (await greets(port)) break;
    if (i === 50) {
      const log = existsSync(`${directory}/maillog`) ? readFileSync(`${directory}/maillog`, 'utf8').slice(-2000) : '';
      stop();
      throw new Error(`Postfix does not answer:\n${log}`);
    }
    await delay(100);
  }
  return {
    rcpt: (address, sender) => rcpt(port, address, sender),
    submit: (sender, ...recipients) => submit(submission, sender, recipients),
    headers: (reply) => {
      const id = /queued as (\w+)/.exec(reply)?.[1] ?? '';
      return spawnSync('postcat', ['-c', conf, '-hq', id], { encoding: 'utf8' }).stdout.trim().split('\n');
    },
    lookUp: (file, key) =>
      spawnSync('postmap', ['-c', conf, '-q', key, `pgsql:${join(conf, file)}`], { encoding: 'utf8' }).stdout.trim(),
    stop,
  };
}

const askingPolicy = (value: string, port: number | undefined): string =>
  value.replace(/, (check_policy_service inet:127\.0\.0\.1):\d+/, port === undefined ? '' : `, $1:${port}`);

async function greets(port: number): Promise<boolean> {
  try {
    return (await dialogue(port, []))[0]?.startsWith('220') ?? false;
  } catch {
    return false;
  }
}

/** An address with characters beyond ASCII needs the parameter SMTPUTF8 (RFC 6531 section 3.4). */
const utf8 = (...addresses: string[]) =>
  addresses.some((address) => Buffer.byteLength(address) > address.length) ? ' SMTPUTF8' : '';

async function rcpt(port: number, address: string, sender = 'sender@example.net'): Promise<string> {
  const from = `MAIL FROM:<${sender}>${utf8(sender, address)}`;
  const replies = await dialogue(port, ['EHLO test', from, `RCPT TO:<${address}>`]);
  return replies.at(-1)!;
}

async function submit(port: number, sender: string, recipients: readonly string[]): Promise<string> {
  const replies = await dialogue(port, [
    'EHLO test',
    `MAIL FROM:<${sender}>${utf8(sender, ...recipients)}`,
    ...recipients.map((recipient) => `RCPT TO:<${recipient}>`),
    'DATA',
    `From: ${sender}\r\nTo: ${recipients.join(', ')}\r\nSubject: x\r\n\r\nx\r\n.`,
  ]);
  return replies.at(-1)!;
}

/** Gives one reply for the greeting and each command; the last line of a multi-line reply. */
function dialogue(port: number, commands: string[]): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(port, '127.0.0.1');
    const replies: string[] = [];
    socket.setTimeout(10_000, () => socket.destroy(new Error('Postfix is silent')));
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('Postfix hung up')));
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf('\r\n'); end >= 0; end = text.indexOf('\r\n')) {
        const line = text.slice(0, end);
        text = text.slice(end + 2);
        if (line[3] === '-') continue;
        replies.push(line);
        // After a refusal the remaining commands make no sense.
        if (/^[45]/.test(line)) commands.length = replies.length - 1;
        const next = commands[replies.length - 1];
        if (next) socket.write(`${next}\r\n`);
        else if (replies.length === commands.length + 1) {
          resolve(replies);
          socket.end('QUIT\r\n');
        }
      }
    });
  });
}
