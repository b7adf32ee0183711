import { createTransport } from 'nodemailer';

/**
 * Sends one mail.
 *
 * @throws {Error} with the reason of the SMTP server, or of the connection to it.
 */
export async function send(
  { SMTP_URL, NOTIFY_FROM }: { readonly SMTP_URL: string; readonly NOTIFY_FROM: string },
  to: string,
  mail: { readonly subject: string; readonly text: string },
): Promise<void> {
  const transport = createTransport({ url: SMTP_URL, connectionTimeout: 10_000, socketTimeout: 30_000 });
  try {
    await transport.sendMail({ from: NOTIFY_FROM, to, ...mail });
  } finally {
    transport.close();
  }
}
