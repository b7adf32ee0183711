import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIPv6, type LookupFunction } from 'node:net';
import type { DohClient } from '@app/dns';
import { isLoopback, isPublicAddress } from '@app/ip-addresses';

/** The questions for a resolver. */
export type Resolver = Pick<DohClient, 'txt' | 'a' | 'aaaa'>;

/** Thrown when a request is not made, or gets no answer that counts. */
export class NotFetched extends Error {
  override readonly name = 'NotFetched';
}

export interface PinnedGetOptions {
  readonly resolvers: readonly Resolver[];
  /** Whether this machine may be asked, also over plain HTTP: for development only. */
  readonly loopback: boolean;
  /** Milliseconds for the whole request. */
  readonly timeoutMs: number;
  /** The most octets of a body. */
  readonly limit: number;
}

/**
 * Gets a text by HTTPS from a host whose name others have chosen. The host's addresses are asked of our resolvers; all
 * must be public, and the connection goes to the one that was checked, so that a second look-up cannot lead elsewhere.
 * No redirect is followed.
 *
 * @returns the body of an answer with status 200.
 * @throws {NotFetched}
 */
export async function pinnedGet(url: URL, options: PinnedGetOptions): Promise<string> {
  const { timeoutMs, limit } = options;
  const signal = AbortSignal.timeout(timeoutMs);
  const address = await addressOf(url, options);
  const lookup: LookupFunction = (_host, { all }, done) => {
    const family = isIPv6(address) ? 6 : 4;
    if (all) done(null, [{ address, family }]);
    else done(null, address, family);
  };
  const send = url.protocol === 'https:' ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new NotFetched(`${url.host}: ${why}`));
    const request = send(url, { lookup, agent: false, signal, headers: { accept: 'application/json' } });
    request.on('error', ({ message }) => fail(signal.aborted ? `no answer within ${timeoutMs} ms` : message));
    request.on('response', (response) => {
      const chunks: Buffer[] = [];
      let length = 0;
      const give = (why: string) => {
        fail(why);
        request.destroy();
      };
      if (response.statusCode !== 200) return give(`status ${response.statusCode}`);
      response.on('data', (chunk: Buffer) => {
        length += chunk.length;
        if (length > limit) give(`more than ${limit} octets`);
        else chunks.push(chunk);
      });
      response.on('error', ({ message }) => fail(message));
      response.on('end', () => resolve(Buffer.concat(chunks).toString()));
    });
    request.end();
  });
}

/** @throws {NotFetched} */
async function addressOf({ hostname, protocol }: URL, { resolvers, loopback }: PinnedGetOptions): Promise<string> {
  if (isLoopback(hostname)) {
    if (loopback) return hostname === '[::1]' ? '::1' : hostname === 'localhost' ? '127.0.0.1' : hostname;
    throw new NotFetched(`${hostname} is this machine`);
  }
  if (protocol !== 'https:') throw new NotFetched(`${hostname} is not asked without TLS`);
  if (/^[\d.]+$|^\[/.test(hostname)) throw new NotFetched(`${hostname} is no name of a host`);
  const answers = await Promise.all(resolvers.flatMap((resolver) => [resolver.a(hostname), resolver.aaaa(hostname)]));
  const addresses = answers.flatMap((answer) => (answer.kind === 'records' ? answer.records : []));
  if (addresses.length === 0) throw new NotFetched(`${hostname} has no address`);
  const others = addresses.filter((address) => !isPublicAddress(address));
  if (others.length > 0) throw new NotFetched(`${hostname} has an address that is not public, ${others[0]}`);
  return addresses[0]!;
}
