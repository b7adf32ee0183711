import { connect as connectTcp, isIP, isIPv6, type LookupFunction, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import { DohClient } from '@app/dns';
import { checkAddresses, TargetRefused, type TargetOptions } from '@app/webhooks';
import type { buildConnector } from 'undici';

/** The questions for a resolver. */
export type Resolver = Pick<DohClient, 'a' | 'aaaa'>;

/** Connections to a resolver, of 100 questions each: two questions for each of 1,024 tries that are under way. */
const sessions = 21;

/**
 * Makes the clients of our resolvers. None has to wait for others: the name servers of a customer may never answer, and
 * each question to them takes as long as a resolver waits for them.
 *
 * @param timeoutMs milliseconds for a question.
 */
export const resolversAt = (urls: readonly string[], timeoutMs: number): DohClient[] =>
  urls.map((url) => new DohClient({ url, timeoutMs, sessions }));

export interface PinnedConnectorOptions extends TargetOptions {
  /** Asked in their order, until one answers. */
  readonly resolvers: readonly Resolver[];
  /** Milliseconds for look-up, connection and TLS together; 15,000 when absent. */
  readonly timeoutMs?: number;
  /** Checks the addresses of a host; those of `@app/webhooks` when absent. @throws {TargetRefused} */
  readonly check?: (host: string, addresses: readonly string[]) => void;
  /** Certificate authorities besides those of Node. */
  readonly ca?: ConnectionOptions['ca'];
}

/** Milliseconds for one of several addresses, before the next one is tried as well (RFC 8305 section 5). */
const attemptMs = 500;

/**
 * Makes the connections of undici. A name is looked up by our resolvers and by nobody else, all of its addresses are
 * checked, and the connection goes to one of those that were checked: a second look-up cannot lead elsewhere.
 */
export function pinnedConnector(options: PinnedConnectorOptions): buildConnector.connector {
  return (target, done) => {
    connectPinned(target, options).then(
      (socket) => done(null, socket),
      (error: Error) => done(error, null),
    );
  };
}

async function connectPinned(
  { hostname, protocol, port }: buildConnector.Options,
  options: PinnedConnectorOptions,
): Promise<Socket> {
  const begun = performance.now();
  const { timeoutMs = 15_000 } = options;
  const host = hostname.replace(/^\[|\]$/g, '');
  const addresses = await addressesOf(host, options);
  const check = options.check ?? ((name, all) => checkAddresses(name, all, options));
  check(host, addresses);
  const lookup: LookupFunction = (_host, { all }, found) => {
    const each = addresses.map((address) => ({ address, family: isIPv6(address) ? 6 : 4 }));
    if (all) found(null, each);
    else found(null, each[0]!.address, each[0]!.family);
  };
  const to = {
    host,
    port: Number(port || (protocol === 'https:' ? 443 : 80)),
    lookup,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: attemptMs,
    noDelay: true,
    keepAlive: true,
  };
  const socket =
    protocol === 'https:'
      ? connectTls({
          ...to,
          ...(isIP(host) === 0 && { servername: host }),
          ...(options.ca && { ca: options.ca }),
          ALPNProtocols: ['http/1.1'],
          minVersion: 'TLSv1.2',
        })
      : connectTcp(to);
  return new Promise((resolve, reject) => {
    const late = () => socket.destroy(new Error(`no connection within ${timeoutMs} ms`));
    const timer = setTimeout(late, timeoutMs - (performance.now() - begun));
    socket.once('error', reject);
    socket.once('close', () => clearTimeout(timer));
    socket.once(protocol === 'https:' ? 'secureConnect' : 'connect', () => {
      clearTimeout(timer);
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

/** @throws {TargetRefused} where it has none, or no resolver answers. */
async function addressesOf(host: string, { resolvers }: PinnedConnectorOptions): Promise<string[]> {
  if (isIP(host) !== 0) return [host];
  if (host === 'localhost') return ['127.0.0.1', '::1'];
  for (const resolver of resolvers) {
    const answers = await Promise.all([resolver.a(host), resolver.aaaa(host)]);
    const addresses = answers.flatMap((answer) => (answer.kind === 'records' ? answer.records : []));
    if (addresses.length > 0) return addresses;
    if (answers.every(({ kind }) => kind === 'nxdomain' || kind === 'nodata'))
      throw new TargetRefused(`${host} has no address in the DNS.`);
  }
  throw new TargetRefused(`The addresses of ${host} could not be looked up.`);
}
