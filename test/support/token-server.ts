import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface TokenRequest {
  readonly authorization: string | undefined;
  readonly type: string | undefined;
  readonly body: URLSearchParams;
}

export interface TokenAnswer {
  readonly status?: number;
  readonly body: string;
}

export interface TokenServer {
  readonly url: string;
  /** What was asked, the newest last. */
  readonly requests: TokenRequest[];
  /** What the next requests are answered; undefined for none at all. */
  answer: () => TokenAnswer | undefined;
  close(): Promise<void>;
}

/** Makes a token that is not signed (RFC 7515 appendix A.5), valid for so many seconds from now. */
export function unsignedToken(seconds: number): string {
  const now = Math.floor(Date.now() / 1000);
  // Brokers allow no difference of clocks: the token is from a little while ago.
  const claims = { sub: 'sendmux', iat: now - 5, exp: now + seconds };
  return `${[{ alg: 'none' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')}.`;
}

/** Starts a server on loopback that gives tokens by client credentials. */
export async function startTokenServer(): Promise<TokenServer> {
  const requests: TokenRequest[] = [];
  const server = createServer((request, response) => {
    void textOf(request).then((text) => {
      const { authorization, 'content-type': type } = request.headers;
      requests.push({ authorization, type, body: new URLSearchParams(text) });
      const answer = given.answer();
      if (answer) response.writeHead(answer.status ?? 200, { 'content-type': 'application/json' }).end(answer.body);
    });
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const given: TokenServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`,
    requests,
    answer: () => ({ body: JSON.stringify({ access_token: unsignedToken(60), token_type: 'Bearer', expires_in: 60 }) }),
    close: () => {
      server.closeAllConnections();
      return new Promise((closed) => server.close(() => closed()));
    },
  };
  return given;
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return text;
}
