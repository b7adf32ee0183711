import { day, type FailureMail } from './failure-mail';
import { letter } from './letter';

/** Writes the mail which says that a failure is over, to owners who had the mail about the failure. */
export const recoveryMail = ({ name, at }: { readonly name: string; readonly at: string }): FailureMail =>
  letter({
    subject: `${name} is verified again`,
    title: `${name} is verified again`,
    paragraphs: [
      `On ${day(at)} at ${at.slice(11, 16)} UTC we checked the DNS records of ${name} again, and all of them match. The domain’s status is “verified”.`,
      'You need not do anything. We check this domain on our own again.',
    ],
    why: 'You receive this mail, once, because we told you that the domain had failed.',
  });
