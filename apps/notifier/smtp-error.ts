/** The fields of a nodemailer error that give the answer of the mail server. */
interface SmtpError {
  readonly responseCode?: number;
  /** Nodemailer's own name of the error. */
  readonly code?: string;
  readonly command?: string;
  /** The complete reply. */
  readonly response?: string;
}

/** Removes addresses from a reply. Mail servers repeat the recipient, whose address must not be logged or stored. */
export const withoutAddresses = (text: string): string =>
  text.replace(/[^\s<>]+/g, (word) => (/[^@]@[^@]/.test(word) ? '[address]' : word));

/**
 * `recipient`: no retry can deliver the mail to this owner. `ours`: the server refuses this installation, its login,
 * its sender or its right to send, until an operator acts. `passing`: trying again may help.
 */
export type SmtpFault = 'recipient' | 'ours' | 'passing';

/**
 * Sorts an error of nodemailer. A 5xx to the recipient or to the mail itself is about the recipient; one to the
 * greeting, the login or the sender is ours, and so is a reply about security or policy (530, or 5.7.x of RFC 3463),
 * such as "relaying denied".
 */
export function smtpFault(error: unknown): SmtpFault {
  const { responseCode = 0, code = '', command, response = '' } = error as SmtpError;
  if (responseCode >= 400 && responseCode < 500) return 'passing';
  if (['EAUTH', 'ENOAUTH', 'EOAUTH2'].includes(code)) return 'ours';
  if (responseCode < 500) return 'passing';
  if (responseCode === 530 || /^5\d\d[ -]5\.7\./.test(response)) return 'ours';
  return command === 'RCPT TO' || command === 'DATA' ? 'recipient' : 'ours';
}
