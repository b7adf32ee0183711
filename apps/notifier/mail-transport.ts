import type { Settings } from '@app/runtime';
import { createTransport, type Transporter } from 'nodemailer';

/** The time-outs of the connection to the SMTP server, in milliseconds. */
const timeouts = { connectionTimeout: 10_000, greetingTimeout: 10_000, socketTimeout: 30_000 };

/** Sends each mail on a connection of its own, to the server and by the password that `SMTP_URL` names then. */
export function mailTransport(settings: Pick<Settings, 'SMTP_URL'>): Pick<Transporter, 'sendMail'> {
  const transport = (url: string) =>
    createTransport({ ...timeouts, url, disableFileAccess: true, disableUrlAccess: true });
  let last = { url: settings.SMTP_URL, transport: transport(settings.SMTP_URL) };
  return {
    sendMail: (mail) => {
      const url = settings.SMTP_URL;
      if (url !== last.url) last = { url, transport: transport(url) };
      return last.transport.sendMail(mail);
    },
  };
}
