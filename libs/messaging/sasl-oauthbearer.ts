import { TokenRefused } from './kafka-errors';

/** Gives the message that shows a token to a broker (RFC 7628 section 3.1). */
export const bearerMessage = (token: string): string => `n,,\x01auth=Bearer ${token}\x01\x01`;

/**
 * Checks the answer of a broker to the message, which is empty when it accepts the token, and says why not in JSON
 * otherwise (RFC 7628 section 3.2).
 *
 * @throws {TokenRefused}
 */
export function assertAccepted(answer: Buffer): void {
  if (answer.length === 0) return;
  const [status] = /(?<="status" *: *")\w{1,50}(?=")/.exec(answer.toString('utf8', 0, 1_000)) ?? [
    'it does not say why',
  ];
  throw new TokenRefused(`The broker does not take the token (${status})`);
}
