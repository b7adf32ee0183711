import { Sessions, type Session } from '@app/accounts';
import type { FastifyRequest } from 'fastify';
import { ApiError } from './api-error';

/**
 * The name of the cookie. With the prefix `__Host-`, which browsers take by HTTPS alone, no other host of the same site
 * can set it, and so sign somebody in to another team (RFC 6265bis section 4.1.3.2).
 */
const cookieNames = { secure: '__Host-sendmux_session', plain: 'sendmux_session' } as const;

/** Finds the console sessions of requests by their cookie, and writes that cookie. */
export class ConsoleSessions {
  private readonly origin: string;
  private readonly cookieName: string;
  private readonly attributes: string;

  /**
   * @param publicUrl under which customers reach the gateway: its pages alone may use a session to change something.
   */
  constructor(
    private readonly sessions: Sessions,
    publicUrl: string,
  ) {
    const { origin, protocol } = new URL(publicUrl);
    this.origin = origin;
    const isSecure = protocol === 'https:';
    this.cookieName = isSecure ? cookieNames.secure : cookieNames.plain;
    // The prefix asks for this path.
    this.attributes = isSecure
      ? 'Path=/; HttpOnly; SameSite=Strict; Secure'
      : 'Path=/api/v1; HttpOnly; SameSite=Strict';
  }

  /**
   * Gives the session of a request; undefined without a cookie, or where its session is over.
   *
   * @throws {ApiError} `insufficient_permissions` where a page of another origin may have sent a request that changes
   * something. SameSite alone would let in the pages of other hosts of the same site.
   */
  async of(request: FastifyRequest): Promise<Session | undefined> {
    const token = tokenOf(request, this.cookieName);
    if (token === undefined) return undefined;
    if (!['GET', 'HEAD'].includes(request.method) && !this.isOwn(request)) throw foreign();
    return this.sessions.resume(token);
  }

  /**
   * Refuses a sign-in that a page of another origin has sent. One without a browser says nothing of an origin.
   *
   * @throws {ApiError} `insufficient_permissions`
   */
  assertNotForeign(request: FastifyRequest): void {
    const { origin, 'sec-fetch-site': site } = request.headers;
    if ((origin !== undefined || site !== undefined) && !this.isOwn(request)) throw foreign();
  }

  /** Ends the session of a request. */
  async end(request: FastifyRequest): Promise<void> {
    const token = tokenOf(request, this.cookieName);
    if (token !== undefined) await this.sessions.end(token);
  }

  /** Gives the header `Set-Cookie` of a session. It has no end of its own, so the browser forgets it when it closes. */
  cookie(token: string): string {
    return `${this.cookieName}=${token}; ${this.attributes}`;
  }

  /** Gives the header `Set-Cookie` with which the browser forgets the session. */
  noCookie(): string {
    return `${this.cookieName}=; Max-Age=0; ${this.attributes}`;
  }

  /** Browsers tell `Sec-Fetch-Site` to secure contexts only, and `Origin` always. A page can set neither. */
  private isOwn({ headers: { origin, 'sec-fetch-site': site } }: FastifyRequest): boolean {
    return site === undefined ? origin === this.origin : site === 'same-origin';
  }
}

const foreign = () =>
  new ApiError(
    'insufficient_permissions',
    'A console session changes something only for the pages of this origin. Send an API key instead.',
  );

/** Finds the token in the header `Cookie`, as browsers write it: other white space is part of another name. */
function tokenOf({ headers: { cookie } }: Pick<FastifyRequest, 'headers'>, cookieName: string): string | undefined {
  for (const pair of (cookie ?? '').split(';')) {
    const [written, value] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)];
    if (written.replace(/^ /, '') === cookieName) return value.trim() || undefined;
  }
  return undefined;
}
