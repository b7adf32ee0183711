import { createTransport } from 'nodemailer';
import { check, failed, ok } from '../check';
import { reasonOf } from '../diagnose';

/** Milliseconds for each step of the conversation. */
const stepMs = 4_000;

/** What to do about an error of nodemailer, by its code. */
const remedies: Record<string, string> = {
  EAUTH: 'Set the user and password that the server knows',
  EDNS: 'Name a host that has an address',
  ESOCKET: 'Start the server, or name the host, the port and the protocol (smtp: or smtps:) that it has',
  ECONNECTION: 'Start the server, or name the host, the port and the protocol (smtp: or smtps:) that it has',
  ETLS: 'Give the server a certificate that this machine trusts for that name',
};

/** Greets the server that takes mails to owners, and logs in; it sends no mail. */
export const smtp = check({
  name: 'smtp',
  needs: ['SMTP_URL'],
  withinMs: 10_000,
  remedy: 'Look at the server of SMTP_URL, and at the way to it.',
  run: async ({ settings: { SMTP_URL: url } }) => {
    const transport = createTransport({
      url,
      connectionTimeout: stepMs,
      greetingTimeout: stepMs,
      socketTimeout: stepMs,
      disableFileAccess: true,
      disableUrlAccess: true,
    });
    const { host, username } = new URL(url);
    try {
      await transport.verify();
      return [ok(`${host} greets${username ? ', and knows the user' : ''}.`)];
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      return [failed(`SMTP_URL: ${reasonOf(error as Error)}. ${remedies[code] ?? 'Look at the log of the server'}.`)];
    } finally {
      transport.close();
    }
  },
});
