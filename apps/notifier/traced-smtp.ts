import { span } from '@app/tracing';
import type { Transporter } from 'nodemailer';

/** Sends mails, each within a span that says nothing of the mail: neither whom it is for nor what it says. */
export const tracedSmtp = (smtp: Pick<Transporter, 'sendMail'>): Pick<Transporter, 'sendMail'> => ({
  sendMail: (mail) =>
    span('send mail', { kind: 'client', attributes: { 'network.protocol.name': 'smtp' } }, () => smtp.sendMail(mail)),
});
