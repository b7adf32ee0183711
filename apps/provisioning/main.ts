import { runApp } from '@app/process';
import { provisioning } from './app';

void runApp(provisioning);
